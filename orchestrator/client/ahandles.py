"""A run and a schedule, awaited: what `AsyncClient` gives."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from pydantic import JsonValue

from orchestrator.client.aoperations import each
from orchestrator.client.run_handle import RunHandle
from orchestrator.client.runtree import RunTree
from orchestrator.client.schedule_handle import Moment, ScheduleHandle
from orchestrator.client.waits import Timeout, deadline, is_old, left_s, moment_s, seconds, seen
from orchestrator.core.facts import Explanation
from orchestrator.core.rerun import Rerun
from orchestrator.core.signals import Delivery
from orchestrator.core.states import RunStatus, StepStatus
from orchestrator.core.timing.notes import Fire
from orchestrator.engine.schedules.operate import Backfill
from orchestrator.engine.signals.approvals import Approval
from orchestrator.ledger.logs import BEGIN, LogLine, Place
from orchestrator.ledger.reads.rows import AttemptRow, ChildRow, EventRow, RunRow, StepRow
from orchestrator.ledger.reads.steps import FOLD, PAGE
from orchestrator.ledger.schedules import Lag, ScheduleRow, TickRow
from orchestrator.ledger.timelines import Timeline

if TYPE_CHECKING:  # the one over HTTP needs a library that only its users have installed
    from orchestrator.client.acalls import AsyncCalls
    from orchestrator.client.remote.run import HttpRunHandle
    from orchestrator.client.remote.schedule import HttpScheduleHandle

R = TypeVar("R")


class AsyncRunHandle(Generic[R]):
    """As `RunHandle`, awaited."""

    def __init__(self, client: "AsyncCalls", handle: "RunHandle[R] | HttpRunHandle[R]") -> None:
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
        if isinstance(self.sync, RunHandle) and is_old(self.sync):  # over HTTP the API looks first
            if (status := await self.client.thread(seen, self.sync)) is not None:
                return status
            await asyncio.sleep(moment_s(self.sync, ends))
            if (status := await self.client.thread(seen, self.sync)) is not None:
                return status
        try:
            return await asyncio.wait_for(self._end(limit_s), left_s(ends))
        except TimeoutError:
            return self.sync.final(await self.status(), limit_s)

    def end(self) -> "asyncio.Future[RunStatus]":
        """As `RunHandle.end`, for `asyncio.wait` and `as_completed`."""
        return self._end(None)

    def _end(self, limit_s: float | None) -> "asyncio.Future[RunStatus]":
        end = self.sync.end() if isinstance(self.sync, RunHandle) else self.sync.end_within(limit_s)
        return asyncio.wrap_future(end)

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
        self,
        from_step: str | None = None,
        *,
        input: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
        by: str | None = None,
    ) -> "AsyncRunHandle[R]":
        """As `RunHandle.rerun`."""
        return AsyncRunHandle(
            self.client,
            await self.client.thread(self.sync.rerun, from_step, input=input, changes=changes, by=by),
        )

    async def rerun_plan(
        self,
        from_step: str | None = None,
        *,
        input: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Rerun:
        """As `RunHandle.rerun_plan`."""
        return await self.client.thread(self.sync.rerun_plan, from_step, input=input, changes=changes)

    async def reruns(self) -> list[UUID]:
        """As `RunHandle.reruns`."""
        return await self.client.thread(self.sync.reruns)


class AsyncScheduleHandle:
    """As `ScheduleHandle`, awaited."""

    def __init__(self, client: "AsyncCalls", handle: "ScheduleHandle | HttpScheduleHandle") -> None:
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
