"""The keeper's duties. Each call does one page; a bad row is logged by the caller and never stops the page after it."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.durations import format_duration
from orchestrator.core.facts import Dispatch, Overrun, StepError, Swept
from orchestrator.core.states import FINAL_RUN, RunStatus, StepEvent
from orchestrator.engine.faults import fp
from orchestrator.engine.runs.cancel_run import stop
from orchestrator.engine.steps import fail_step
from orchestrator.engine.steps.release import each_row, end
from orchestrator.ledger import graph, sweeps
from orchestrator.ledger.tx import Ledger

PAGE = 500


def expired(ledger: Ledger, *, crash_limit: int, page: int = PAGE) -> Swept:
    """Steps whose lease ran out are READY again. Recovery only re-queues.

    Those of halted runs are ended, and so are steps that were lost more than `crash_limit` times. The transaction in
    which a lost attempt still holds what it wrote is ended too: its process may be asleep, not dead.
    """
    lost = ledger.retry(lambda tx: sweeps.requeue_expired(tx, page, crash_limit))
    if lost:
        fp("sweep.committed")
    again = tuple(Dispatch(*tuple(row)[:6]) for row in lost)
    # The others are looked for on the last page only: on each they would be looked for among all that are left.
    last, ended = _lost_for_good(ledger, crash_limit, page) if len(lost) < page else ((), ())
    if lost or last:
        ledger.retry(lambda tx: sweeps.end_sessions(tx, [*lost, *last]))
    return Swept(len(lost) + len(last), again + ended)


def _lost_for_good(ledger: Ledger, crash_limit: int, page: int) -> tuple[Sequence[Row[Any]], tuple[Dispatch, ...]]:
    with ledger.auto() as tx:
        rows = sweeps.expired(tx, page, crash_limit)
    if rows:
        fp("sweep.selected")
    return rows, end(ledger, rows)


def due(ledger: Ledger, page: int = PAGE) -> Swept:
    """Steps whose back-off is over are READY again."""
    dispatches = ledger.retry(lambda tx: sweeps.due(tx, page))
    return Swept(len(dispatches), dispatches)


def next_due(ledger: Ledger) -> float | None:
    """Seconds until the next timer; None when none is set."""
    with ledger.auto() as tx:
        return sweeps.next_due(tx)


def deadlines(ledger: Ledger, grace: timedelta, page: int = PAGE) -> Swept:
    """Runs past their deadline are halted like cancelled ones, and end TIMED_OUT."""
    with ledger.auto() as tx:
        run_ids = sweeps.past_deadline(tx, page)
    each_row(run_ids, lambda run_id: ledger.retry(lambda tx: _time_out(tx, run_id, grace)))
    return Swept(len(run_ids))


def _time_out(tx: Connection, run_id: UUID, grace: timedelta) -> None:
    run = graph.lock(tx, run_id, against_claims=True)
    if run.status not in FINAL_RUN and run.halt is None:
        stop(tx, run_id, RunStatus.TIMED_OUT, run.status, by=None, reason="the run passed its deadline", grace=grace)


def queue_timeouts(ledger: Ledger, page: int = PAGE) -> Swept:
    """Steps that waited in their queue longer than `queue_timeout` fail."""
    with ledger.auto() as tx:
        rows = sweeps.past_queue_deadline(tx, page)
    pages = each_row(rows, lambda row: ledger.retry(lambda tx: _queue_timeout(ledger, tx, row)))
    return Swept(len(rows), tuple(dispatch for page in pages for dispatch in page))


def _queue_timeout(ledger: Ledger, tx: Connection, row: Row[Any]) -> tuple[Dispatch, ...]:
    run = graph.lock(tx, row.run_id)
    found = sweeps.still_ready(tx, row.run_id, row.step_key, row.dispatch_no)
    if found is None or run.halt is not None:
        return ()
    error = StepError(
        "QueueTimeout", f"no worker claimed it within its queue_timeout of {format_duration(found.queue_timeout)}", None
    )
    plan = ledger.plan(run.manifest_hash)
    return fail_step.failed(tx, plan, run, row.step_key, None, error, StepEvent.QUEUE_TIMEOUT).dispatches


def overruns(ledger: Ledger, owner_prefix: str, *, page: int = 100) -> list[Overrun]:
    """Claims of this worker that are past their step timeout, or whose run was halted and the grace is over.

    They are ended in the ledger here, so nothing their handlers still report is accepted; the caller stops the
    handlers.
    """
    with ledger.auto() as tx:
        rows = sweeps.overrun(tx, owner_prefix, page)
    found = each_row(rows, lambda row: ledger.retry(lambda tx: _stop(ledger, tx, row)))
    return [overrun for overrun in found if overrun is not None]


def _stop(ledger: Ledger, tx: Connection, row: Row[Any]) -> Overrun | None:
    run = graph.lock(tx, row.run_id)
    attempt = graph.end_claim(tx, row.run_id, row.step_key, row.version)
    if attempt is None:
        return None
    plan = ledger.plan(run.manifest_hash)
    why: Literal["timeout", "cancel"] = "timeout" if row.timed_out else "cancel"
    limit = plan.node(row.step_key).definition.timeout
    error = (
        StepError("StepTimeout", f"it ran longer than its timeout of {limit and format_duration(limit)}", None)
        if row.timed_out
        else StepError("Cancelled", "it did not stop within the grace after the run was halted", None)
    )
    finished = fail_step.ended_badly(
        tx,
        plan,
        run,
        row.step_key,
        attempt,
        error,
        True,
        random.random(),
        "timed_out" if row.timed_out else "cancelled",
    )
    return Overrun(row.run_id, row.step_key, row.version, row.owner, why, finished.dispatches)
