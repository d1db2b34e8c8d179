"""Clients that start runs over HTTP: alone and in batches, with keys that are used again, and some wait for the end."""

import json
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.edge.client import EdgeClient
from tests.edge.journal import Exchange, Journal

Body = Callable[[random.Random], dict[str, Any]]
"""Makes an input."""
_TRIES: Final = 40
_WAIT: Final = "?wait=3s"


@dataclass(frozen=True)
class _Start:
    """A request; with a batch, several inputs and keys."""

    flow: str
    bodies: Sequence[dict[str, Any]]
    keys: Sequence[str] | None
    batch: bool = False
    wait: bool = False


class Starter(EdgeClient):
    """`flows`: by name, how to make an input. It repeats what was not answered as long as its key allows that."""

    def __init__(
        self,
        doors: Sequence[str],
        journal: Journal,
        seed: str,
        pause_s: float,
        *,
        flows: Mapping[str, Body],
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(doors, journal, f"starter {seed}", pause_s)
        self._seed, self._flows, self._headers = seed, flows, headers
        self._given: deque[_Start] = deque(maxlen=40)
        self._keys = 0

    def act(self) -> None:
        luck = self.rng.random()
        if luck < 0.2 and self._given:
            self._insist(self._again())
            return
        flow = self.rng.choice([*self._flows])
        count = self.rng.randint(2, 6) if luck > 0.85 else 1
        keys = [self._key() for _ in range(count)] if self.rng.random() < 0.7 else None
        bodies = [self._flows[flow](self.rng) for _ in range(count)]
        start = _Start(flow, bodies, keys, batch=luck > 0.85, wait=count == 1 and self.rng.random() < 0.3)
        if keys is not None:
            self._given.append(start)
        self._insist(start)

    def _again(self) -> _Start:
        """What was asked before; or other things with its key."""
        old = self.rng.choice(self._given)
        if old.batch or self.rng.random() < 0.7:
            return old
        return _Start(old.flow, [self._flows[old.flow](self.rng)], old.keys)

    def _key(self) -> str:
        self._keys += 1
        return f"edge-{self._seed}-{self._keys}"

    def _insist(self, start: _Start) -> None:
        """Until it is answered; without a key nobody knows whether that would start another one, so once."""
        for _ in range(_TRIES):
            answer = self._ask(start)
            known = answer.fate == "answered" and answer.status != 503
            if known or start.keys is None or self.is_over:
                return
            self.rest(self.rng.uniform(0.05, 0.5))

    def _ask(self, start: _Start) -> Exchange:
        facts = {"flow": start.flow, "bodies": start.bodies, "keys": start.keys, "wait": start.wait}
        path = f"/api/flows/{start.flow}/trigger"
        headers = {**self._headers, "Content-Type": "application/json"}
        if start.batch:
            asked = {"inputs": start.bodies} | ({"idempotency_keys": start.keys} if start.keys else {})
            return self.caller.send("batch", f"{path}/batch", json.dumps(asked).encode(), headers, facts)
        if start.keys is not None:
            headers["Idempotency-Key"] = start.keys[0]
        content = json.dumps(start.bodies[0]).encode()
        return self.caller.send("start", path + (_WAIT if start.wait else ""), content, headers, facts)
