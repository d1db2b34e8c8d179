"""`AsyncClient`: the client for asyncio programs. A thin shell: every call runs the sync one in a thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeGuard, TypeVar, Unpack, overload
from uuid import UUID

from pydantic import JsonValue

from orchestrator import forks
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Length
from orchestrator.client.aoperations import AsyncOperations, each
from orchestrator.client.client import Client, Startable
from orchestrator.client.headers import Headers
from orchestrator.client.later import StartAfter
from orchestrator.client.records import Record
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.runtree import RunTree
from orchestrator.client.schedule_handle import Moment, ScheduleHandle
from orchestrator.client.waits import Timeout, deadline, is_old, left_s, moment_s, seconds, seen
from orchestrator.client.wanted import Wanted
from orchestrator.core.facts import Explanation
from orchestrator.core.rerun import Rerun
from orchestrator.core.signals import Delivery
from orchestrator.core.states import RunStatus, StepStatus
from orchestrator.core.timing.notes import Fire
from orchestrator.engine.schedules.operate import Backfill
from orchestrator.engine.signals.approvals import Approval
from orchestrator.ledger.borrowed import Borrowed
from orchestrator.ledger.error_groups import ErrorGroup
from orchestrator.ledger.logs import BEGIN, LogLine, Place
from orchestrator.ledger.reads.rows import AttemptRow, ChildRow, EventRow, RunRow, StepRow
from orchestrator.ledger.reads.steps import FOLD, PAGE
from orchestrator.ledger.rollups import RunStats
from orchestrator.ledger.schedules import Lag, ScheduleRow, TickRow
from orchestrator.ledger.timelines import Timeline
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


class AsyncRunHandle(Generic[R]):
    """As `RunHandle`, awaited."""

    def __init__(self, client: AsyncClient, handle: RunHandle[R]) -> None:
        self.client = client
        self.sync = handle
        self.id = handle.id
        self.created = handle.created

    def __repr__(self) -> str:
        return repr(self.sync)

    async def row(self) -> RunRow:
        """As `RunHandle.row`."""
        return await self.client.thread(self.sync.row)

    async def status(self) -> RunStatus:
        """As `RunHandle.status`."""
        return await self.client.thread(self.sync.status)

    async def wait(self, timeout: Timeout = None) -> RunStatus:
        """As `RunHandle.wait`; holds no thread, so many may wait, and a wait can be cancelled."""
        limit_s = seconds(timeout)
        ends = deadline(limit_s)
        if is_old(self.sync):
            if (status := await self.client.thread(seen, self.sync)) is not None:
                return status
            await asyncio.sleep(moment_s(self.sync, ends))
            if (status := await self.client.thread(seen, self.sync)) is not None:
                return status
        try:
            return await asyncio.wait_for(self.end(), left_s(ends))
        except TimeoutError:
            return self.sync.final(await self.status(), limit_s)

    def end(self) -> "asyncio.Future[RunStatus]":
        """As `RunHandle.end`, for `asyncio.wait` and `as_completed`."""
        return asyncio.wrap_future(self.sync.end())

    async def result(self, timeout: Timeout = None) -> R:
        """As `RunHandle.result`."""
        return await self.client.thread(self.sync.outcome, await self.wait(timeout))

    async def steps(
        self,
        *,
        loop: str | None = None,
        status: StepStatus | str | None = None,
        after: str | None = None,
        limit: int = PAGE,
        fold: int = FOLD,
    ) -> list[StepRow]:
        """As `RunHandle.steps`."""
        return await self.client.thread(self.sync.steps, loop=loop, status=status, after=after, limit=limit, fold=fold)

    def all_steps(self) -> AsyncIterator[StepRow]:
        """As `RunHandle.all_steps`, for `async for`."""
        return each(self.client, self.sync.all_steps())

    async def step(self, key: str) -> StepRow:
        """As `RunHandle.step`."""
        return await self.client.thread(self.sync.step, key)

    async def attempts(self, step: str, *, before: int | None = None, limit: int = 50) -> list[AttemptRow]:
        """As `RunHandle.attempts`."""
        return await self.client.thread(self.sync.attempts, step, before=before, limit=limit)

    async def output(self, step: str) -> JsonValue:
        """As `RunHandle.output`."""
        return await self.client.thread(self.sync.output, step)

    async def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `RunHandle.events`."""
        return await self.client.thread(self.sync.events, after=after, limit=limit)

    def all_events(self, *, after: int = 0) -> AsyncIterator[EventRow]:
        """As `RunHandle.all_events`, for `async for`."""
        return each(self.client, self.sync.all_events(after=after))

    async def logs(self, step: str | None = None, *, after: Place = BEGIN, limit: int = 100) -> list[LogLine]:
        """As `RunHandle.logs`."""
        return await self.client.thread(self.sync.logs, step, after=after, limit=limit)

    def all_logs(self, step: str | None = None) -> AsyncIterator[LogLine]:
        """As `RunHandle.all_logs`, for `async for`."""
        return each(self.client, self.sync.all_logs(step))

    async def timeline(self) -> Timeline:
        """As `RunHandle.timeline`."""
        return await self.client.thread(self.sync.timeline)

    async def log_places(self, step: str | None = None) -> list[Place]:
        """As `RunHandle.log_places`."""
        return await self.client.thread(self.sync.log_places, step)

    async def children(self, step: str | None = None, *, after: UUID | None = None, limit: int = 50) -> list[ChildRow]:
        """As `RunHandle.children`."""
        return await self.client.thread(self.sync.children, step, after=after, limit=limit)

    async def tree(self) -> RunTree:
        """As `RunHandle.tree`."""
        return await self.client.thread(self.sync.tree)

    async def shown_result(self) -> JsonValue:
        """As `RunHandle.shown_result`."""
        return await self.client.thread(self.sync.shown_result)

    async def shown_output(self, step: str) -> JsonValue:
        """As `RunHandle.shown_output`."""
        return await self.client.thread(self.sync.shown_output, step)

    async def explain(self, step: str | None = None) -> Explanation:
        """As `RunHandle.explain`."""
        return await self.client.thread(self.sync.explain, step)

    async def graph(self, language: str = "tree") -> str:
        """As `RunHandle.graph`."""
        return await self.client.thread(self.sync.graph, language)

    async def cancel(self, reason: str = "", *, by: str | None = None) -> RunStatus:
        """As `RunHandle.cancel`."""
        return await self.client.thread(self.sync.cancel, reason, by=by)

    async def delete(self, reason: str | None = None, *, by: str | None = None) -> None:
        """As `RunHandle.delete`."""
        await self.client.thread(self.sync.delete, reason, by=by)

    async def signal(
        self,
        name: str,
        payload: object = None,
        *,
        key: object = "",
        id: str | None = None,
        by: str | None = None,
        ttl: Timeout = None,
    ) -> Delivery:
        """As `RunHandle.signal`."""
        return await self.client.thread(self.sync.signal, name, payload, key=key, id=id, by=by, ttl=ttl)

    async def answer(self, step: str, answer: object, *, id: str | None = None, by: str | None = None) -> Delivery:
        """As `RunHandle.answer`."""
        return await self.client.thread(self.sync.answer, step, answer, id=id, by=by)

    async def asks(self, name: str) -> bool:
        """As `RunHandle.asks`."""
        return await self.client.thread(self.sync.asks, name)

    async def approval(self, step: str) -> Approval:
        """As `RunHandle.approval`."""
        return await self.client.thread(self.sync.approval, step)

    async def retry(
        self, step: str | None = None, *, by: str | None = None, force: bool = False, fresh: bool = False
    ) -> None:
        """As `RunHandle.retry`."""
        await self.client.thread(self.sync.retry, step, by=by, force=force, fresh=fresh)

    async def skip(self, step: str, reason: str, *, by: str | None = None) -> None:
        """As `RunHandle.skip`."""
        await self.client.thread(self.sync.skip, step, reason, by=by)

    async def mark(self, step: str, output: object, reason: str, *, by: str | None = None) -> None:
        """As `RunHandle.mark`."""
        await self.client.thread(self.sync.mark, step, output, reason, by=by)

    async def rerun(
        self, from_step: str | None = None, *, input: Mapping[str, Any] | None = None, by: str | None = None
    ) -> "AsyncRunHandle[R]":
        """As `RunHandle.rerun`."""
        return AsyncRunHandle(self.client, await self.client.thread(self.sync.rerun, from_step, input=input, by=by))

    async def rerun_plan(self, from_step: str | None = None, *, input: Mapping[str, Any] | None = None) -> Rerun:
        """As `RunHandle.rerun_plan`."""
        return await self.client.thread(self.sync.rerun_plan, from_step, input=input)

    async def reruns(self) -> list[UUID]:
        """As `RunHandle.reruns`."""
        return await self.client.thread(self.sync.reruns)


class AsyncScheduleHandle:
    """As `ScheduleHandle`, awaited."""

    def __init__(self, client: AsyncClient, handle: ScheduleHandle) -> None:
        self.client = client
        self.sync = handle
        self.flow = handle.flow
        self.key = handle.key

    def __repr__(self) -> str:
        return repr(self.sync)

    async def row(self) -> ScheduleRow:
        """As `ScheduleHandle.row`."""
        return await self.client.thread(self.sync.row)

    async def lag(self) -> Lag:
        """As `ScheduleHandle.lag`."""
        return await self.client.thread(self.sync.lag)

    async def explain(self) -> Explanation:
        """As `ScheduleHandle.explain`."""
        return await self.client.thread(self.sync.explain)

    async def preview(self, count: int = 10) -> list[Fire]:
        """As `ScheduleHandle.preview`."""
        return await self.client.thread(self.sync.preview, count)

    async def history(self, limit: int = 50) -> list[TickRow]:
        """As `ScheduleHandle.history`."""
        return await self.client.thread(self.sync.history, limit)

    async def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """As `ScheduleHandle.events`."""
        return await self.client.thread(self.sync.events, after=after, limit=limit)

    async def pause(self, reason: str = "", *, by: str | None = None) -> None:
        """As `ScheduleHandle.pause`."""
        await self.client.thread(self.sync.pause, reason, by=by)

    async def resume(self, *, by: str | None = None) -> None:
        """As `ScheduleHandle.resume`."""
        await self.client.thread(self.sync.resume, by=by)

    async def trigger(self, *, by: str | None = None) -> AsyncRunHandle[Any]:
        """As `ScheduleHandle.trigger`."""
        return AsyncRunHandle(self.client, await self.client.thread(self.sync.trigger, by=by))

    async def set_cron(self, expression: str, *, zone: str | None = None, by: str | None = None) -> None:
        """As `ScheduleHandle.set_cron`."""
        await self.client.thread(self.sync.set_cron, expression, zone=zone, by=by)

    async def reset(self, *, by: str | None = None) -> None:
        """As `ScheduleHandle.reset`."""
        await self.client.thread(self.sync.reset, by=by)

    async def backfill(
        self,
        since: Moment,
        until: Moment,
        *,
        max_parallel: int = 1,
        reverse: bool = False,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Backfill:
        """As `ScheduleHandle.backfill`."""
        return await self.client.thread(
            self.sync.backfill, since, until, max_parallel=max_parallel, reverse=reverse, dry_run=dry_run, by=by
        )

    async def zone(self) -> str:
        """As `ScheduleHandle.zone`."""
        return await self.client.thread(self.sync.zone)

    async def cancel_backfill(self, backfill_id: UUID, *, by: str | None = None) -> int:
        """As `ScheduleHandle.cancel_backfill`."""
        return await self.client.thread(self.sync.cancel_backfill, backfill_id, by=by)
