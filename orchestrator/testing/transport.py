"""What stands for Redis in a world: a list of messages in this process."""

import random
from collections.abc import Sequence

from orchestrator.core.facts import Dispatch
from orchestrator.engine.sweeps import redispatch
from orchestrator.ledger.tx import Ledger


class Transport:
    """Plays the publisher of a worker and the sender of a client. Which message comes next, the seed decides."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._rng = random.Random(f"order {seed}")
        self._waiting: list[Dispatch] = []

    def publish(self, dispatches: Sequence[Dispatch], *, again: bool = False) -> bool:
        """These may be taken from now on."""
        self._waiting += dispatches
        redispatch.confirm(self._ledger, dispatches)
        return True

    def send(self, dispatches: Sequence[Dispatch]) -> None:
        """As `publish`, for clients."""
        self.publish(dispatches)

    def take(self) -> Dispatch | None:
        """Some message of the highest priority that waits."""
        if not self._waiting:
            return None
        first = min(one.priority for one in self._waiting)
        best = [place for place, one in enumerate(self._waiting) if one.priority == first]
        return self._waiting.pop(self._rng.choice(best))

    def close(self) -> None:
        """Nothing is kept."""
        self._waiting.clear()
