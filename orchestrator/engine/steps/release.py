"""Give claims back: those of a worker that stops, unstarted or not, and those of a process that died."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from typing import Any

from sqlalchemy import Connection, Row

from orchestrator.core.facts import Dispatch, Failure, Finished, Lease, StepError
from orchestrator.core.happened import Failed
from orchestrator.core.states import StepEvent
from orchestrator.engine.batches import run_batches
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance, fail_step
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import EndedByUs, notify_ended, step_of
from orchestrator.ledger import controls, graph, sweeps
from orchestrator.ledger.graph import AttemptEnd
from orchestrator.ledger.sweeps import LossLimits
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify

PAGE = 500
_GRACE_OVER = "its worker stopped, and its grace was over"
_HANDED_OVER = "the step handed over: its worker was about to stop"
log = logging.getLogger(__name__)


def release(ledger: Ledger, lease: Lease) -> tuple[Dispatch, ...]:
    """Give a claim back unstarted; no attempt is charged. Empty when it was not ours any more, or its run was
    halted."""
    found = ledger.retry(lambda tx: controls.release(tx, lease))
    if not found:
        ended = ledger.retry(lambda tx: _cancel(ledger, tx, lease))
        if ended is not None:
            notify_ended(ended)
    return found


def _cancel(ledger: Ledger, tx: Connection, lease: Lease) -> EndedByUs | None:
    """Nobody may claim a step of a halted run: given back, it would keep the run open for ever."""
    held = HeldRun.lock(ledger, tx, lease.run_id)
    if held.run.halt is None or graph.end_claim(tx, held.id, lease.step_key, lease.fence, lease.owner) is None:
        return None
    graph.end_attempt(tx, held.id, lease.step_key, lease.attempt, AttemptEnd("cancelled"))
    finished = fail_step.cancelled(held, lease.step_key, lease.attempt)
    failure = Failure(StepError("Cancelled", f"the run was {held.run.halt}"), status="cancelled")
    return EndedByUs(held.step(lease.step_key, lease.attempt), failure, finished)


def hand_over(ledger: Ledger, lease: Lease) -> Finished:
    """The handler of a worker that stops ended at a point of its own choice: its step is READY again, and nothing is
    charged. The attempt is `released`.

    Raises:
        LeaseLost: another worker owns the step, or it was ended; nothing was written.
    """
    found = ledger.retry(lambda tx: sweeps.hand_over(tx, lease, _HANDED_OVER))
    if found:
        return Finished(dispatches=found, attempt="released")
    ended = ledger.retry(lambda tx: _cancel(ledger, tx, lease))
    if ended is None:
        raise advance.lost(lease)
    return ended.finished


def undone(ledger: Ledger, lease: Lease, error: StepError, *, crash_limit: int | None) -> Finished:
    """The attempt's own transaction was rolled back, by no failure of its handler: the step is READY again.

    With a `crash_limit` it is charged as a crash, and one too many fails the step; without one it costs nothing.

    Raises:
        LeaseLost: another worker owns the step, or it was ended; nothing was written.
    """
    return ledger.retry(lambda tx: _undo(ledger, tx, lease, error, crash_limit))


def _undo(ledger: Ledger, tx: Connection, lease: Lease, error: StepError, crash_limit: int | None) -> Finished:
    held = HeldRun.lock(ledger, tx, lease.run_id)
    advance.fence(tx, lease)
    graph.end_attempt(tx, held.id, lease.step_key, lease.attempt, AttemptEnd("crashed", error))
    if held.run.halt is not None:
        return fail_step.cancelled(held, lease.step_key, lease.attempt)
    if crash_limit is not None:
        if controls.crashes(tx, held.id, lease.step_key) >= crash_limit:
            return fail_step.failed(held, lease.step_key, lease.attempt, error, crashed=True)
        controls.charge_crash(tx, held.id, lease.step_key)
    graph.event(tx, held.id, "step.undone", lease.step_key, lease.attempt, {"error": error.message[:500]})
    return Finished(dispatches=graph.ready(tx, held.id, [lease.step_key], StepEvent.LEASE_EXPIRE), again=True)


def end_owned(
    ledger: Ledger, owner_prefix: str, *, crash_limit: int, deploy_limit: int = 100, stopping: bool = False
) -> tuple[Dispatch, ...]:
    """A process that held claims is dead: its steps are READY again, each at the cost of one crash; or of one deploy,
    when it was told to stop: `stopping` says so, or its worker's row.

    `owner_prefix` is a worker process (then its pool children are meant too) or one pool child.
    """
    limits = LossLimits(crash_limit, deploy_limit)
    dispatches: list[Dispatch] = []
    while True:
        rows = ledger.retry(lambda tx: sweeps.held_by(tx, owner_prefix, PAGE, stopping=stopping))
        found, changed = _recover(ledger, rows, limits)
        dispatches += found
        if len(rows) < PAGE or not changed:  # a page that does not shrink is left to the leases' end
            return tuple(dispatches)


def hand_back(ledger: Ledger, owner_prefix: str) -> tuple[Dispatch, ...]:
    """The claims of a worker process, or of one of its pool children, whose stop may take no longer: their steps are
    READY again, and nothing is charged. Their handlers have ended, or are about to, with their process.

    What their transactions hold is let go of: the next attempt would wait for it.
    """
    dispatches: list[Dispatch] = []
    while True:
        rows = ledger.retry(lambda tx: sweeps.held_still(tx, owner_prefix, PAGE))
        if not rows:
            return tuple(dispatches)
        found, changed = _recover(ledger, rows, None)
        dispatches += found
        ledger.once(partial(sweeps.end_sessions, rows=rows))
        if not changed:
            return tuple(dispatches)


def _recover(ledger: Ledger, rows: Sequence[Row[Any]], limits: LossLimits | None) -> tuple[tuple[Dispatch, ...], int]:
    """The rows were read before; each write quotes the version it was read at. With the number of claims ended. Without
    limits nothing is charged: their worker hands them back."""
    fp("sweep.selected")
    ends = [row.halted or (limits is not None and limits.reached(row)) for row in rows]
    last = list(compress(rows, ends))
    plain = [row for row, end in zip(rows, ends, strict=True) if not end]
    why = _GRACE_OVER if limits is None else None
    again = ledger.retry(lambda tx: sweeps.requeue_lost(tx, plain, why)) if plain else ()
    fp("sweep.committed")
    _notify_lost(plain, again, why)
    ended = run_batches([[row] for row in last], lambda piece: end_lost(ledger, piece[0], dead=True), _failed)
    return again + tuple(dispatch for each in ended.done for dispatch in each), len(again) + len(ended.done)


def _notify_lost(rows: Sequence[Row[Any]], again: Sequence[Dispatch], why: str | None) -> None:
    """Each attempt whose step is READY again."""
    lost = {(row.run_id, row.step_key): row for row in rows}
    for one in again:
        row = lost[one.run_id, one.step_key]
        failure = _loss(row) if why is None else Failure(StepError("HandedBack", why), status="released")
        notify(Failed(step_of(one, row.attempt), failure, failure.status, again=True))


def _failed(row: Row[Any], exc: Exception) -> None:
    facts = {"run_id": row.run_id, "step_key": row.step_key}
    log.error("sweep.row_failed", extra=facts, exc_info=exc)


def end_lost(ledger: Ledger, row: Row[Any], *, dead: bool = False) -> tuple[Dispatch, ...] | None:
    """End a lost attempt whose step may not run again: its run is halted, or it was lost too often. None when the claim
    had ended.

    The write quotes the version its row was read at and, unless the owner is known to be `dead`, asks again whether the
    lease ran out: a worker that renewed meanwhile keeps its step.
    """
    ended = ledger.retry(lambda tx: _end(ledger, tx, row, dead=dead))
    return None if ended is None else notify_ended(ended)


def _end(ledger: Ledger, tx: Connection, row: Row[Any], *, dead: bool) -> EndedByUs | None:
    held = HeldRun.lock(ledger, tx, row.run_id)
    if graph.end_claim(tx, row.run_id, row.step_key, row.version, expired=not dead) is None:
        return None
    failure = _loss(row)
    graph.end_attempt(tx, held.id, row.step_key, row.attempt, AttemptEnd(failure.status, failure.error))
    if held.run.halt is not None:
        finished = replace(fail_step.cancelled(held, row.step_key, row.attempt), attempt=None)
    else:
        finished = fail_step.failed(held, row.step_key, row.attempt, failure.error, crashed=not row.deploy)
    return EndedByUs(held.step(row.step_key, row.attempt), failure, finished)


def _loss(row: Row[Any]) -> Failure:
    return Failure(StepError("WorkerLost", _why(row)), status="released" if row.deploy else "crashed")


def _why(row: Row[Any]) -> str:
    if row.deploy:
        times = f"{row.deploys + 1} times; the last was {row.owner}"
        return f"its worker was told to stop, and ended before the step did, {times}"
    return f"its worker was lost {row.crashes + 1} times while it ran; the last was {row.owner}"
