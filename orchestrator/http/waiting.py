"""`?wait=30s`: the answer comes when the run has ended, or has changed, or when the time is over. Nobody who waits
holds a thread or a connection: one thread of the process watches the runs whose ends are waited for, and one tells what
happens to all others."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Request

from orchestrator.client.run_handle import RunHandle
from orchestrator.core.durations import parse_duration
from orchestrator.errors import DurationInvalid
from orchestrator.http.caller import TheCaller
from orchestrator.http.hub import Hub
from orchestrator.http.problems import Refused
from orchestrator.http.readers import Wanted
from orchestrator.http.stopping import Stopping

T = TypeVar("T")
Look = Callable[[], Awaitable[tuple[T, str]]]
"""What there is now, and its tag."""
LONGEST_S: Final = 55.0
"""Proxies give up after a minute."""
_JITTER: Final = 0.05
_LOOK_S: Final = 5.0
"""How often a run is looked at that nothing is told of: its status may change without an event."""
_RETRY_AFTER_S: Final = 5
_PREFERRED: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")


class Waits:
    """How many requests of each caller wait here now. For the event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def begin(self, caller: str) -> None:
        """
        Raises:
            Refused: as many wait as may.
        """
        if self._most and self._open[caller] >= self._most:
            raise Refused(
                429,
                f"{self._most} requests of {caller} wait here already.",
                "too_many_waits",
                "end some of them, or ask without `wait`.",
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )
        self._open[caller] += 1

    def of(self, caller: str) -> int:
        return self._open[caller]

    def end(self, caller: str) -> None:
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long a request waits; false: not at all. Those that wait as long as others do not all come back at once."""

    wait_s: float
    request: Request
    stopping: Stopping
    hub: Hub

    def __bool__(self) -> bool:
        return self.wait_s > 0

    async def until_ended(self, handle: "RunHandle[Any]") -> None:
        """Return when the run has ended, after the time, when this process is to end, or when whoever asked is gone."""
        end: asyncio.Future[Any] = asyncio.wrap_future(handle.end())
        await self._until(end)

    async def until_changed(self, run_id: UUID, look: Look[T], tag: str) -> tuple[T, str]:
        """What `look` finds, once that has another tag; after the time, or when this process is to end, as it is."""
        found = await look()
        if found[1] != tag:
            return found
        await self._until(asyncio.ensure_future(self._change(run_id, look, tag)))
        return await look()

    async def _change(self, run_id: UUID, look: Look[T], tag: str) -> None:
        async with aclosing(self.hub.read(Wanted(run_id), None, _LOOK_S)) as told:
            async for _ in told:  # first the place where that begins: what was before is seen now
                if (await look())[1] != tag:
                    return

    async def _until(self, done: "asyncio.Future[Any]") -> None:
        longest_s = self.wait_s * (1 - _JITTER * random.random())
        stop: asyncio.Future[Any] = asyncio.ensure_future(self.stopping.wait(longest_s))
        gone: asyncio.Future[Any] = asyncio.ensure_future(_gone(self.request))
        try:
            await asyncio.wait([done, stop, gone], return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                done.result()
        finally:
            done.cancel()
            stop.cancel()
            gone.cancel()


async def _gone(request: Request) -> None:
    """Return when whoever asked has closed the connection. The body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def waiting_of(
    request: Request,
    caller: TheCaller,
    wait: Annotated[str | None, Query(max_length=20, description="How long to wait for the end: at most 55s.")] = None,
) -> AsyncIterator[Waiting]:
    """`Prefer: wait=30` says the same."""
    state, wait_s = request.app.state, seconds_of(request, wait)
    waiting = Waiting(wait_s, request, state.stopping, state.hub)
    if not waiting:
        yield waiting
        return
    state.waits.begin(caller.name)
    try:
        yield waiting
    finally:
        state.waits.end(caller.name)


def seconds_of(request: Request, wait: str | None) -> float:
    """How long a request is to wait, of its parameter or `Prefer`.

    Raises:
        Refused: that is no length of time.
    """
    if wait is None:
        preferred = _PREFERRED.search(request.headers.get("prefer", ""))
        return min(float(preferred[1]), LONGEST_S) if preferred else 0.0
    try:
        return min(parse_duration(wait).total_seconds(), LONGEST_S)
    except DurationInvalid as exc:
        raise Refused(400, f"wait={wait!r} is not a length of time.", fix="write `wait=30s`.") from exc


Wait = Annotated[Waiting, Depends(waiting_of)]
