"""What `AsyncClient` and `AsyncHttpClient` have in common: every call runs that of the sync client in a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack, overload
from uuid import UUID

from orchestrator import forks
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Length
from orchestrator.client.ahandles import AsyncRunHandle, AsyncScheduleHandle
from orchestrator.client.aoperations import AsyncOperations, each
from orchestrator.client.client import Client, Startable
from orchestrator.client.records import Record
from orchestrator.client.wanted import Wanted
from orchestrator.engine.signals.approvals import Approval
from orchestrator.ledger.error_groups import ErrorGroup
from orchestrator.ledger.reads.rows import EventRow, RunRow
from orchestrator.ledger.rollups import RunStats
from orchestrator.ledger.schedules import ScheduleRow

if TYPE_CHECKING:  # it needs an HTTP library, which only its users have installed
    from orchestrator.client.remote.client import HttpClient

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class AsyncCalls(AsyncOperations):
    """As `Client`, awaited. Use it in an `async with`, or await `close()`."""

    sync: "Client | HttpClient"

    def _wrap(self, client: "Client | HttpClient", threads: int) -> None:
        """`threads`: as many calls at once; those that wait for runs hold none."""
        self.sync, self._size = client, threads
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        # Its own threads, and none of the loop's default ones, which other libraries share.
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="orchestrator")

    def after_fork(self) -> None:
        """See `forks.Forked`: the threads are the parent's."""
        forks.inherited(self._threads)
        self._begin()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Client.close`."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown()  # a cancelled wait may have left a look under way
        self.sync.close()

    async def thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` in one of this client's threads."""
        forks.notice()
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def runs(
        self, *, limit: int = 50, after: UUID | None = None, inputs: bool = True, **wanted: Unpack[Wanted]
    ) -> list[RunRow]:
        """As `Client.runs`."""
        return await self.thread(self.sync.runs, limit=limit, after=after, inputs=inputs, **wanted)

    def all_records(self, **wanted: Unpack[Wanted]) -> AsyncIterator[Record]:
        """As `Client.all_records`, for `async for`."""
        return each(self, self.sync.all_records(**wanted))

    async def count_runs(self, **wanted: Unpack[Wanted]) -> int:
        """As `Client.count_runs`."""
        return await self.thread(self.sync.count_runs, **wanted)

    async def errors(self, **wanted: Unpack[Wanted]) -> list[ErrorGroup]:
        """As `Client.errors`."""
        return await self.thread(self.sync.errors, **wanted)

    async def stats(
        self,
        flow: Startable[Any] | str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        every: Length | None = None,
    ) -> list[RunStats]:
        """As `Client.stats`."""
        return await self.thread(self.sync.stats, flow, since=since, until=until, every=every)

    @overload
    async def run(self, run_id: UUID | str, flow: Startable[R]) -> "AsyncRunHandle[R]": ...
    @overload
    async def run(self, run_id: UUID | str, flow: None = None) -> "AsyncRunHandle[Any]": ...
    async def run(self, run_id: UUID | str, flow: Any = None) -> "AsyncRunHandle[Any]":
        """As `Client.run`."""
        return AsyncRunHandle(self, await self.thread(self.sync.run, run_id, flow))

    async def is_unserved(self, flow: Startable[Any] | str) -> bool:
        """As `Client.is_unserved`."""
        return await self.thread(self.sync.is_unserved, flow)

    async def flow_events(self, flow: Startable[Any] | str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `Client.flow_events`."""
        return await self.thread(self.sync.flow_events, flow, after=after, limit=limit)

    async def delete_flow(self, flow: Startable[Any] | str, *, by: str | None = None) -> None:
        """As `Client.delete_flow`."""
        await self.thread(self.sync.delete_flow, flow, by=by)

    async def approvals(
        self, to: str | None = None, *, limit: int = 50, after: Approval | None = None
    ) -> list[Approval]:
        """As `Client.approvals`."""
        return await self.thread(self.sync.approvals, to, limit=limit, after=after)

    async def schedules(self, flow: Flow[..., Any] | str | None = None) -> list[ScheduleRow]:
        """As `Client.schedules`."""
        return await self.thread(self.sync.schedules, flow)

    async def schedule(self, flow: Flow[..., Any] | str, key: str | None = None) -> "AsyncScheduleHandle":
        """As `Client.schedule`."""
        return AsyncScheduleHandle(self, await self.thread(self.sync.schedule, flow, key))
