"""Clients that start runs over HTTP: alone and in batches, with keys that are used again, and some wait for the end."""

import json
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    request: str | None = None
    """The key of the whole request."""
    wait: bool = False

    @property
    def has_key(self) -> bool:
        return self.keys is not None or self.request is not None


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
        count = self.rng.randint(2, 6) if luck > 0.8 else 1
        keys = [self._key() for _ in range(count)] if self.rng.random() < 0.7 else None
        bodies = [self._flows[flow](self.rng) for _ in range(count)]
        batch = count > 1
        request = self._key() if batch and keys is None and self.rng.random() < 0.7 else None
        start = _Start(flow, bodies, keys, batch, request, wait=not batch and self.rng.random() < 0.3)
        if start.has_key:
            self._given.append(start)
        self._insist(start)

    def _again(self) -> _Start:
        """What was asked before; or other things with its key."""
        old = self.rng.choice(self._given)
        if (old.batch and old.keys is not None) or self.rng.random() < 0.7:
            return old
        return replace(old, bodies=[self._flows[old.flow](self.rng) for _ in old.bodies], wait=False)

    def _key(self) -> str:
        self._keys += 1
        return f"edge-{self._seed}-{self._keys}"

    def _insist(self, start: _Start) -> None:
        """Until it is answered; without a key nobody knows whether that would start another one, so once."""
        for _ in range(_TRIES):
            answer = self._ask(start)
            known = answer.fate == "answered" and answer.status != 503
            if known or not start.has_key or self.is_over:
                return
            self.rest(self.rng.uniform(0.05, 0.5))

    def _ask(self, start: _Start) -> Exchange:
        facts = {name: getattr(start, name) for name in ("flow", "bodies", "keys", "request", "wait")}
        path = f"/api/flows/{start.flow}/trigger"
        headers = {**self._headers, "Content-Type": "application/json"}
        if start.batch:
            if start.request is not None:
                headers["Idempotency-Key"] = start.request
            asked = {"inputs": start.bodies} | ({"idempotency_keys": start.keys} if start.keys else {})
            return self.caller.send("batch", f"{path}/batch", json.dumps(asked).encode(), headers, facts)
        if start.keys is not None:
            headers["Idempotency-Key"] = start.keys[0]
        content = json.dumps(start.bodies[0]).encode()
        return self.caller.send("start", path + (_WAIT if start.wait else ""), content, headers, facts)
