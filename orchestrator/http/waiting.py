"""`?wait=30s`: the answer comes when the run has ended, or when the time is over. Nobody who waits holds a thread or a
connection: one thread of the process watches all runs that are waited for."""

import asyncio
import random
import re
from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request

from orchestrator.client.run_handle import RunHandle
from orchestrator.core.durations import parse_duration
from orchestrator.errors import DurationInvalid
from orchestrator.http.problems import Refused
from orchestrator.http.stopping import Stopping

LONGEST_S: Final = 55.0
"""Proxies give up after a minute."""
_JITTER: Final = 0.05
_PREFERRED: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")


async def wait_of(
    request: Request,
    wait: Annotated[str | None, Query(max_length=20, description="How long to wait for the end: at most 55s.")] = None,
) -> float:
    """Seconds; 0: not at all. `Prefer: wait=30` says the same."""
    if wait is None:
        preferred = _PREFERRED.search(request.headers.get("prefer", ""))
        return min(float(preferred[1]), LONGEST_S) if preferred else 0.0
    try:
        return min(parse_duration(wait).total_seconds(), LONGEST_S)
    except DurationInvalid as exc:
        raise Refused(400, f"wait={wait!r} is not a length of time.", fix="write `wait=30s`.") from exc


Wait = Annotated[float, Depends(wait_of)]


async def until_ended(handle: "RunHandle[Any]", wait_s: float, stopping: Stopping) -> None:
    """Return when the run has ended, after the time, or when this process is to end; those who wait as long as others
    do not all come back at once."""
    end: asyncio.Future[Any] = asyncio.wrap_future(handle.end())
    stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait(wait_s * (1 - _JITTER * random.random())))
    try:
        await asyncio.wait([end, stop], return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            end.result()
    finally:
        end.cancel()
        stop.cancel()
