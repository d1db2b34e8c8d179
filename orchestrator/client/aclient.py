"""`AsyncClient`: the client for asyncio programs. A thin shell: every call runs the sync one in a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeGuard, TypeVar, Unpack, overload
from uuid import UUID

from orchestrator import forks
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Length
from orchestrator.client.ahandles import AsyncRunHandle, AsyncScheduleHandle
from orchestrator.client.aoperations import AsyncOperations, each
from orchestrator.client.client import Client, Startable
from orchestrator.client.headers import Headers
from orchestrator.client.later import StartAfter
from orchestrator.client.records import Record
from orchestrator.client.wanted import Wanted
from orchestrator.engine.signals.approvals import Approval
from orchestrator.ledger.borrowed import Borrowed
from orchestrator.ledger.error_groups import ErrorGroup
from orchestrator.ledger.reads.rows import EventRow, RunRow
from orchestrator.ledger.rollups import RunStats
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.settings import Settings

if TYPE_CHECKING:  # it needs greenlet, which only its users have installed
    from sqlalchemy.ext.asyncio import AsyncConnection

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def _is_async(given: "Borrowed | AsyncConnection") -> "TypeGuard[AsyncConnection]":
    return hasattr(given, "run_sync")


class AsyncClient(AsyncOperations):
    """As `Client`, awaited. Use it in an `async with`, or await `close()`."""

    sync: Client

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            SettingsInvalid: there is no database URL.
        """
        self._wrap(Client(settings))

    def _wrap(self, client: Client) -> None:
        self.sync = client
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        # Its own threads: as many as connections, and none of the loop's default ones, which other libraries share.
        self._threads = ThreadPoolExecutor(self.sync.settings.database_pool_size, thread_name_prefix="orchestrator")

    def after_fork(self) -> None:
        """See `forks.Forked`: the threads are the parent's."""
        forks.inherited(self._threads)
        self._begin()

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """As `Client.from_env`."""
        made = cls.__new__(cls)
        made._wrap(Client.from_env(env))
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Confirm what was published, and close every connection."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown()  # a cancelled wait may have left a look under way
        self.sync.close()

    async def thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` in one of this client's threads."""
        forks.notice()
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    @overload
    async def start(
        self,
        flow: Startable[R],
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
        **parameters: Any,
    ) -> "AsyncRunHandle[R]": ...
    @overload
    async def start(
        self,
        flow: str,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        tags: Sequence[str] = (),
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
        **parameters: Any,
    ) -> "AsyncRunHandle[Any]": ...
    async def start(
        self,
        flow: Any,
        input: Mapping[str, Any] | None = None,
        /,
        *,
        connection: "Borrowed | AsyncConnection | None" = None,
        **given: Any,
    ) -> "AsyncRunHandle[Any]":
        """As `Client.start`. `connection` may also be one of SQLAlchemy for asyncio, with psycopg 3."""
        return AsyncRunHandle(self, await self._started(self.sync.start, connection, flow, input, **given))

    async def _started(
        self, call: Callable[..., T], connection: "Borrowed | AsyncConnection | None", /, *args: Any, **given: Any
    ) -> T:
        if connection is not None and _is_async(connection):
            return await connection.run_sync(lambda sync: call(*args, connection=sync, **given))
        return await self.thread(call, *args, connection=connection, **given)

    async def committed(self, *handles: "AsyncRunHandle[Any]") -> None:
        """As `Client.committed`."""
        await self.thread(self.sync.committed, *(handle.sync for handle in handles))

    @overload
    async def start_many(
        self,
        flow: Startable[R],
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
    ) -> "list[AsyncRunHandle[R]]": ...
    @overload
    async def start_many(
        self,
        flow: str,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
    ) -> "list[AsyncRunHandle[Any]]": ...
    async def start_many(
        self,
        flow: Any,
        inputs: Sequence[Mapping[str, Any]],
        idempotency_keys: Sequence[str] | None = None,
        tags: Sequence[str] = (),
        *,
        start_after: StartAfter | None = None,
        headers: Headers | None = None,
        connection: "Borrowed | AsyncConnection | None" = None,
    ) -> "list[AsyncRunHandle[Any]]":
        """As `Client.start_many`."""
        start = partial(self.sync.start_many, start_after=start_after, headers=headers)
        handles = await self._started(start, connection, flow, inputs, idempotency_keys, tags)
        return [AsyncRunHandle(self, handle) for handle in handles]

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
