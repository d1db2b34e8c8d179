"""Record a failed attempt: back off, or fail the step and advance the run."""

from dataclasses import replace

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core import retry
from orchestrator.core.facts import Failure, Finished, Lease, StepError
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance, stops
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.kept import kept_inputs, kept_traceback
from orchestrator.errors import LeaseLost
from orchestrator.ledger import controls, graph
from orchestrator.ledger.graph import AttemptEnd
from orchestrator.ledger.tx import Ledger


def fail(ledger: Ledger, lease: Lease, failure: Failure) -> Finished:
    """Record that the attempt failed.

    Raises:
        LeaseLost: another worker owns the step, or it was ended; nothing was written.
    """
    fp("fail.before")

    def work(tx: Connection) -> Finished:
        held = HeldRun.lock(ledger, tx, lease.run_id)
        advance.fence(tx, lease)
        return ended_badly(held, lease.step_key, lease.attempt, failure)

    finished = ledger.retry(work)
    fp("fail.committed")
    return finished


def ended_badly(held: HeldRun, step_key: str, attempt: int, failure: Failure) -> Finished:
    """The attempt is over and its claim was ended by the caller: retry later, or fail the step."""
    halted = held.run.halt is not None
    kept = replace(failure.error, traceback=kept_traceback(failure.error.traceback))
    end = AttemptEnd("cancelled" if halted else failure.status, kept, kept_inputs(failure.inputs))
    graph.end_attempt(held.tx, held.id, step_key, attempt, end)
    if halted:
        return cancelled(held, step_key, attempt)
    failures = controls.failures(held.tx, held.id, step_key) + 1
    may_go_on = failure.retryable and failures < held.plan.node(step_key).retry.max_attempts
    if may_go_on and not stops.stopped(held, step_key):
        return _back_off(held, step_key, attempt, failures, failure)
    return failed(held, step_key, attempt, failure.error)


def _back_off(held: HeldRun, step_key: str, attempt: int, failures: int, failure: Failure) -> Finished:
    node = held.plan.node(step_key)
    delay = retry.delay(node.retry.backoff, failures, failure.jitter) if failure.delay is None else failure.delay
    parked = graph.park(held.tx, held.id, step_key, delay)
    if parked is None:
        raise LeaseLost(f"Step {step_key} is not running any more.", run_id=str(held.id), step_key=step_key)
    if not parked.polls:  # each poll starts the retries anew: those of a long polling would be events without end
        facts: JsonValue = {
            "due_at": parked.due_at.isoformat(),
            "delay_s": round(delay.total_seconds(), 3),
            "error": failure.error.message[:500],
        }
        graph.event(held.tx, held.id, "step.retry_scheduled", step_key, attempt, facts)
    return replace(advance.make_room(held, node), again=True)


def failed(
    held: HeldRun,
    step_key: str,
    attempt: int | None,
    error: StepError,
    *,
    by: StepEvent = StepEvent.FAIL,
    crashed: bool = False,
) -> Finished:
    """The step failed for good."""
    message = error.message[:2000]
    graph.end_step(held.tx, held.id, step_key, by, reason=message, charged="crash" if crashed else "failure")
    graph.event(held.tx, held.id, "step.failed", step_key, attempt, {"type": error.type, "message": message})
    facts: JsonValue = {"step": step_key, "type": error.type, "message": message, "fingerprint": error.fingerprint}
    return advance.after(held, {step_key: StepStatus.FAILED}, facts)


def cancelled(held: HeldRun, step_key: str, attempt: int | None) -> Finished:
    """The step was running when its run was halted."""
    graph.end_step(held.tx, held.id, step_key, StepEvent.CANCEL, reason=f"the run was {held.run.halt}")
    graph.event(held.tx, held.id, "step.cancelled", step_key, attempt)
    return replace(advance.after(held, {step_key: StepStatus.CANCELLED}), attempt="cancelled")
