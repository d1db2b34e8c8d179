"""Who reads the stream of events, and what of it each wants."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from orchestrator.core.schedule_ids import flow_id
from orchestrator.ledger.stream import Told

MOST: Final = 10_000
"""Events that wait for a reader; one for which more would have to be kept has lost its place."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as every reader gets it: rendered once for all of them."""

    told: Told
    frame: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asks for; what is empty leaves nothing out."""

    run_id: UUID | None = None
    flows: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    """Whole ones, and beginnings: `run.*`."""

    def has(self, told: Told) -> bool:
        """Whether it is about this event."""
        return (
            (self.run_id is None or told.run_id == self.run_id)
            and (not self.flows or self._is_of_flow(told))
            and (not self.types or told.type in self.types or f"{told.type.partition('.')[0]}.*" in self.types)
        )

    def _is_of_flow(self, told: Told) -> bool:
        return told.flow in self.flows if told.flow is not None else told.run_id in map(flow_id, self.flows)


class Reader:
    """For the event loop that serves it."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._waiting: deque[Sent] = deque()
        self._lost = False
        self._news = asyncio.Event()

    def offer(self, batch: Sequence[Sent]) -> None:
        """These have happened. One that keeps up may be given any number at once."""
        chosen = [one for one in batch if self.wanted.has(one.told)]
        if self._waiting and len(self._waiting) + len(chosen) > MOST:
            self.lose()
        elif chosen and not self._lost:
            self._waiting.extend(chosen)
            self._news.set()

    def lose(self) -> None:
        """It has lost its place: what waited for it is not sent."""
        self._waiting.clear()
        self._lost = True
        self._news.set()

    async def take(self, longest_s: float) -> list[Sent] | None:
        """What has come, perhaps nothing after that time; None, once, where the place was lost."""
        try:
            await asyncio.wait_for(self._news.wait(), longest_s)
        except TimeoutError:
            return []
        self._news.clear()
        if self._lost:
            self._lost = False
            return None
        found = list(self._waiting)
        self._waiting.clear()
        return found
