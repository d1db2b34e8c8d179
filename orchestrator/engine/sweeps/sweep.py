"""What keepers do for steps and runs, a page per call; a bad row stops neither its page nor the next one."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.durations import format_duration
from orchestrator.core.facts import Dispatch, Failure, Overrun, StepError, Swept
from orchestrator.core.happened import Ended, Failed
from orchestrator.core.states import FINAL_RUN, RunStatus, StepEvent
from orchestrator.engine.faults import fp
from orchestrator.engine.runs.cancel_run import stop
from orchestrator.engine.steps import fail_step
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import EndedByUs, notify_ended, step_of
from orchestrator.engine.steps.release import end_lost
from orchestrator.engine.sweeps.walk import PAGE, Walk
from orchestrator.ledger import graph, sweeps
from orchestrator.ledger.controls import Halt
from orchestrator.ledger.sweeps import LossLimits
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify

_EXPIRED: Final = Failure(StepError("LeaseExpired", "its lease ran out"), status="crashed")
_RELEASED: Final = replace(_EXPIRED, status="released")


def expired(ledger: Ledger, *, crash_limit: int, deploy_limit: int = 100, walk: Walk | None = None) -> Swept:
    """Steps whose lease ran out are READY again. Recovery only re-queues.

    Those of halted runs are ended, and so are steps that were lost more than `crash_limit` times, or `deploy_limit`
    times with a worker that was told to stop. The transaction that a lost attempt left open is ended too: its process
    may be asleep, not dead.
    """
    walk, limits = walk or Walk(), LossLimits(crash_limit, deploy_limit)
    lost = ledger.once(lambda tx: sweeps.requeue_expired(tx, walk.page, limits))
    if lost:
        fp("sweep.committed")
        ledger.once(lambda tx: sweeps.end_sessions(tx, lost))
    again = tuple(Dispatch(*tuple(row)[:6]) for row in lost)
    for one, row in zip(again, lost, strict=True):
        failure = _RELEASED if row.deploy else _EXPIRED
        notify(Failed(step_of(one, row.attempt), failure, failure.status, again=True))
    # The others are looked for on the last page only: on each page it would mean a look at all that are left.
    if len(lost) == walk.page:
        return Swept(len(lost), again, more=True)
    ended = _lost_for_good(ledger, limits, walk)
    return replace(ended, changed=len(lost) + ended.changed, dispatches=again + ended.dispatches)


def _lost_for_good(ledger: Ledger, limits: LossLimits, walk: Walk) -> Swept:
    with ledger.auto() as tx:
        rows = sweeps.expired(tx, walk.page, walk.position, limits)
    if rows:
        fp("sweep.selected")
    swept = walk.go(rows, lambda row: end_lost(ledger, row))
    if rows:
        ledger.once(lambda tx: sweeps.end_sessions(tx, rows))
    return swept


def due(ledger: Ledger, page: int = PAGE) -> Swept:
    """Steps whose back-off is over are READY again; with the time until the next timer, and what else is to be done."""
    found = ledger.once(lambda tx: sweeps.due(tx, page))
    more = len(found.dispatches) == page
    left = {"to_wake": found.to_wake, "untold": found.untold}
    return Swept(len(found.dispatches), found.dispatches, more=more, next_s=found.next_s, **left)


def deadlines(ledger: Ledger, grace: timedelta, walk: Walk | None = None) -> Swept:
    """Runs past their deadline are halted like cancelled ones, and end TIMED_OUT."""
    walk = walk or Walk()
    with ledger.auto() as tx:
        rows = sweeps.past_deadline(tx, walk.page, walk.position)

    def work(row: Row[Any]) -> tuple[Dispatch, ...] | None:
        halted, ended = ledger.retry(lambda tx: _time_out(tx, row.run_id, grace))
        if ended is not None:
            notify(ended)
        return () if halted else None

    return walk.go(rows, work)


def _time_out(tx: Connection, run_id: UUID, grace: timedelta) -> tuple[bool, Ended | None]:
    """Whether the run was halted, and whether it has ended with that."""
    run = graph.lock(tx, run_id, against_claims=True)
    # Asked again with the run held: nobody's page may end a run that its deadline does not.
    if run.status in FINAL_RUN or run.halt is not None or not sweeps.still_late(tx, run_id):
        return False, None
    return True, stop(tx, run, Halt(RunStatus.TIMED_OUT, None, "the run passed its deadline", grace))


def queue_timeouts(ledger: Ledger, walk: Walk | None = None) -> Swept:
    """Steps that waited in their queue longer than `queue_timeout` fail."""
    walk = walk or Walk()
    with ledger.auto() as tx:
        rows = sweeps.past_queue_deadline(tx, walk.page, walk.position)

    def work(row: Row[Any]) -> tuple[Dispatch, ...] | None:
        ended = ledger.retry(lambda tx: _queue_timeout(ledger, tx, row))
        return None if ended is None else notify_ended(ended)

    return walk.go(rows, work)


def _queue_timeout(ledger: Ledger, tx: Connection, row: Row[Any]) -> EndedByUs | None:
    held = HeldRun.lock(ledger, tx, row.run_id)
    found = sweeps.still_ready(tx, row.run_id, row.step_key, row.dispatch_no)
    if found is None or held.run.halt is not None:
        return None
    error = StepError(
        "QueueTimeout", f"no worker claimed it within its queue_timeout of {format_duration(found.queue_timeout)}", None
    )
    finished = fail_step.failed(held, row.step_key, None, error, by=StepEvent.QUEUE_TIMEOUT)
    return EndedByUs(held.step(row.step_key), Failure(error), finished)


def overruns(ledger: Ledger, owner_prefix: str, walk: Walk | None = None) -> list[Overrun]:
    """Claims of this worker that are past their step timeout, or whose run was halted and the grace is over.

    They are ended in the ledger here, so nothing their handlers still report is accepted; the caller stops the
    handlers.
    """
    walk = walk or Walk()
    with ledger.auto() as tx:
        rows = sweeps.overrun(tx, owner_prefix, walk.page, walk.position)
    found: list[Overrun] = []

    def work(row: Row[Any]) -> tuple[Dispatch, ...] | None:
        stopped = ledger.retry(lambda tx: _stop(ledger, tx, row))
        if stopped is None:
            return None
        dispatches = notify_ended(stopped)
        why: Literal["timeout", "cancel"] = "timeout" if row.timed_out else "cancel"
        found.append(Overrun(row.run_id, row.step_key, row.version, row.owner, why, dispatches))
        return dispatches

    walk.go(rows, work)
    return found


def _stop(ledger: Ledger, tx: Connection, row: Row[Any]) -> EndedByUs | None:
    held = HeldRun.lock(ledger, tx, row.run_id)
    attempt = graph.end_claim(tx, row.run_id, row.step_key, row.version)
    if attempt is None:
        return None
    limit = held.plan.node(row.step_key).definition.timeout
    error = (
        StepError("StepTimeout", f"it ran longer than its timeout of {limit and format_duration(limit)}", None)
        if row.timed_out
        else StepError("Cancelled", "it did not stop within the grace after the run was halted", None)
    )
    failure = Failure(error, status="timed_out" if row.timed_out else "cancelled", jitter=ledger.jitter())
    finished = fail_step.ended_badly(held, row.step_key, attempt, failure)
    return EndedByUs(held.step(row.step_key, attempt), failure, finished)
