"""Record a failed attempt: back off, or fail the step and advance the run."""

from datetime import timedelta
from typing import Literal

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core import retry
from orchestrator.core.facts import Finished, Lease, StepError
from orchestrator.core.planner import Plan
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.kept import kept_inputs, kept_traceback
from orchestrator.errors import LeaseLost
from orchestrator.ledger import controls, graph
from orchestrator.ledger.graph import LockedRun
from orchestrator.ledger.tx import Ledger


def fail(
    ledger: Ledger,
    lease: Lease,
    error: StepError,
    *,
    retryable: bool,
    inputs: str | None,
    jitter: float,
    status: Literal["failed", "timed_out"] = "failed",
    delay: timedelta | None = None,
) -> Finished:
    """Record that the attempt failed. `jitter` (0 <= j < 1) spreads the back-off; `delay` is used instead of it.

    Raises:
        LeaseLost: another worker owns the step, or it was ended; nothing was written.
    """
    fp("fail.before")

    def work(tx: Connection) -> Finished:
        run = graph.lock(tx, lease.run_id)
        advance.fence(tx, lease)
        return ended_badly(
            tx,
            ledger.plan(run.manifest_hash),
            run,
            lease.step_key,
            lease.attempt,
            error,
            retryable,
            jitter,
            status,
            inputs,
            delay,
        )

    finished = ledger.retry(work)
    fp("fail.committed")
    return finished


def ended_badly(
    tx: Connection,
    plan: Plan,
    run: LockedRun,
    step_key: str,
    attempt: int,
    error: StepError,
    retryable: bool,
    jitter: float,
    status: str,
    inputs: str | None = None,
    delay: timedelta | None = None,
) -> Finished:
    """The attempt is over and its claim was ended by the caller: retry later, or fail the step."""
    halted = run.halt is not None
    kept = StepError(error.type, error.message, kept_traceback(error.traceback))
    graph.end_attempt(tx, run.id, step_key, attempt, "cancelled" if halted else status, kept, kept_inputs(inputs))
    if halted:
        return cancelled(tx, plan, run, step_key, attempt)
    policy = plan.node(step_key).retry
    failures = controls.failures(tx, run.id, step_key) + 1
    if retryable and failures < policy.max_attempts:
        pause = retry.delay(policy.backoff, failures, jitter) if delay is None else delay
        return _back_off(tx, plan, run, step_key, attempt, pause, error)
    return failed(tx, plan, run, step_key, attempt, error)


def _back_off(
    tx: Connection, plan: Plan, run: LockedRun, step_key: str, attempt: int, delay: timedelta, error: StepError
) -> Finished:
    due_at = graph.park(tx, run.id, step_key, delay)
    if due_at is None:
        raise LeaseLost(f"Step {step_key} is not running any more.", run_id=str(run.id), step_key=step_key)
    facts: JsonValue = {
        "due_at": due_at.isoformat(),
        "delay_s": round(delay.total_seconds(), 3),
        "error": error.message[:500],
    }
    graph.event(tx, run.id, "step.retry_scheduled", step_key, attempt, facts)
    loop = plan.node(step_key).loop
    if loop is not None:
        return Finished(dispatches=advance.make_room(tx, run.id, plan.nodes[loop]))
    return Finished()


def failed(
    tx: Connection,
    plan: Plan,
    run: LockedRun,
    step_key: str,
    attempt: int | None,
    error: StepError,
    by: StepEvent = StepEvent.FAIL,
    *,
    crashed: int = 0,
) -> Finished:
    """The step failed for good."""
    graph.end_step(
        tx, run.id, step_key, by, StepStatus.FAILED, reason=error.message[:2000], failed=1 - crashed, crashed=crashed
    )
    graph.event(tx, run.id, "step.failed", step_key, attempt, {"type": error.type, "message": error.message[:2000]})
    facts: JsonValue = {"step": step_key, "type": error.type, "message": error.message[:2000]}
    return advance.after(tx, plan, run, {step_key: StepStatus.FAILED}, facts)


def cancelled(tx: Connection, plan: Plan, run: LockedRun, step_key: str, attempt: int | None) -> Finished:
    """The step was running when its run was halted."""
    graph.end_step(tx, run.id, step_key, StepEvent.CANCEL, StepStatus.CANCELLED, reason=f"the run was {run.halt}")
    graph.event(tx, run.id, "step.cancelled", step_key, attempt)
    return advance.after(tx, plan, run, {step_key: StepStatus.CANCELLED})
