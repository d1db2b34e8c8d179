"""Sends requests to one of several replicas, and goes to another when it likes, or when one does not answer."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx2

from tests.edge.journal import Exchange, Journal, Kind

CHANGES: Final = 0.2
"""How often a client goes to another replica without a reason."""
_PATIENCE: Final = httpx2.Timeout(20.0, connect=2.0)


class Caller:
    """For one thread."""

    def __init__(self, doors: Sequence[str], journal: Journal, rng: random.Random) -> None:
        self._doors, self._journal, self._rng = doors, journal, rng
        self._door = rng.choice(doors)
        self._http = httpx2.Client(timeout=_PATIENCE)

    def send(
        self, kind: Kind, path: str, content: bytes, headers: Mapping[str, str], facts: Mapping[str, Any]
    ) -> Exchange:
        """Ask, once, with a line in the journal before and one after."""
        if self._rng.random() < CHANGES:
            self._go_elsewhere()
        number = self._journal.asks(kind, facts)
        try:
            answer = self._http.post(self._door + path, content=content, headers=dict(headers))
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            self._journal.told(number, "unreachable")
            self._go_elsewhere()
            return Exchange(kind, facts, 0, 0, "unreachable")
        except httpx2.HTTPError:
            self._journal.told(number, "cut")
            self._go_elsewhere()
            return Exchange(kind, facts, 0, 0, "cut")
        said, retry_after = _json(answer), answer.headers.get("retry-after")
        self._journal.told(number, "answered", answer.status_code, retry_after, said)
        if answer.status_code >= 500:
            self._go_elsewhere()
        return Exchange(kind, facts, 0, 0, "answered", answer.status_code, retry_after, said)

    def close(self) -> None:
        self._http.close()

    def _go_elsewhere(self) -> None:
        self._door = self._rng.choice([door for door in self._doors if door != self._door] or self._doors)


def _json(answer: httpx2.Response) -> dict[str, Any]:
    """Of an answer that is none, its text: it is shown."""
    try:
        found = json.loads(answer.content)
    except ValueError:
        found = {"text": answer.text[:500]}
    return found if isinstance(found, dict) else {"list": found}
