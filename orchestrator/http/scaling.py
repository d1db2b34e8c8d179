"""How many workers groups need: the ledger is asked once in a while, however many ask."""

from threading import Lock
from time import monotonic
from typing import Final

from orchestrator.client import Client
from orchestrator.core.scaling import Scaling

FRESH_S: Final = 1.0
"""How long an answer is given to others too."""


class Reckoned:
    """Of one process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[str, tuple[float, Scaling]] = {}

    def of(self, client: Client, group: str) -> Scaling:
        """What a group needs. Whoever asks while another request does waits for that.

        Raises:
            ScalingGroupNotFound: there is none of that name.
        """
        with self._lock:
            held = self._held.get(group)
            if held is not None and monotonic() - held[0] < FRESH_S:
                return held[1]
            found = client.workers.scaling(group)
            self._held[group] = monotonic(), found
            return found
