"""Recording how an attempt ended, through outages of the ledger."""

import logging
from asyncio import CancelledError as AsyncCancelled
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from time import monotonic
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.authoring.context import HandedOver
from orchestrator.authoring.polling import NotYet
from orchestrator.authoring.retry_after import RetryAfter
from orchestrator.core.facts import Failure, Finished, NotReady, StepError, Success
from orchestrator.core.polling import UntilInvalid
from orchestrator.engine.steps import fail_step, finish_step, polls, release
from orchestrator.engine.steps.kept import kept_traceback
from orchestrator.errors import InputInvalid, LeaseLost, OutputInvalid
from orchestrator.ledger.passing import passing
from orchestrator.observe.logs import STALE, about, line, log
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.errors_text import MESSAGE_LIMIT, named, said, step_error, storable
from orchestrator.workers.run.held_lease import StepTimedOut
from orchestrator.workers.run.outage import GaveUp, retry_through_outage

_POLLS = 'declare it with `@step(poll=Poll(every="10s", timeout="1h"))`'
_NEVER: Final[tuple[type[BaseException], ...]] = (InputInvalid, OutputInvalid, UntilInvalid, NotYet)
_UNTOLD = StepError("NotRecorded", "the attempt failed, and its error could not be recorded; the worker's log has it")


def success(attempt: Attempt) -> None:
    """One commit, asked for until its outcome is known.

    Raises:
        LeaseLost: another worker owns the step, or it was ended.
        GaveUp: the ledger stayed away.
    """
    ledger, lease, outage = attempt.ledger, attempt.lease, attempt.outage(2)
    first = monotonic()
    while True:
        try:
            attempt.asked = first
            if outage.tried:
                attempt.finished = finish_step.settled(ledger, lease)
                if attempt.finished is not None:
                    return
            attempt.asked = monotonic()
            done = Success(attempt.output, attempt.shown_inputs, attempt.chain, attempt.payload)
            attempt.finished = finish_step.finish(ledger, lease, done)
            return
        except LeaseLost:
            if not outage.tried:
                raise
            # A commit still under way when we re-read may have landed since.
            attempt.asked = first
            attempt.finished = retry_through_outage(outage, "finish", lambda: finish_step.settled(ledger, lease))
            if attempt.finished is None:
                raise
            return
        except SQLAlchemyError as exc:
            if not passing(exc):
                raise
            outage.wait(exc, "finish")


def failed(attempt: Attempt, exc: BaseException) -> None:
    """The handler's own failure.

    Raises:
        LeaseLost: another worker owns the step, or it was ended.
        GaveUp: the ledger stayed away.
    """
    if attempt.held.lost:
        raise LeaseLost("The lease ran out while the handler was interrupted.") from exc
    if isinstance(exc, HandedOver):
        _handed_over(attempt)
    elif isinstance(exc, NotYet) and attempt.poll is not None:
        _not_yet(attempt, exc)
    else:
        _record(attempt, _failure(attempt, exc))


def _handed_over(attempt: Attempt) -> None:
    """What a transactional step wrote was rolled back before."""
    attempt.failure = Failure(StepError("HandedBack", "the step handed over"), status="released")
    attempt.finished = _asked_again(attempt, lambda: release.hand_over(attempt.ledger, attempt.lease))


def _not_yet(attempt: Attempt, seen: NotYet) -> None:
    """A step that polls was asked, and is not ready."""
    said = NotReady(storable(attempt.scrubbed(seen.why))[:MESSAGE_LIMIT], seen.after, attempt.shown_inputs)
    attempt.not_ready = said
    attempt.finished = _asked_again(attempt, lambda: polls.not_yet(attempt.ledger, attempt.lease, said))


def _failure(attempt: Attempt, exc: BaseException) -> Failure:
    never = (*_NEVER, *attempt.step.never_retry)
    return Failure(
        _error(attempt, exc),
        retryable=isinstance(exc, attempt.step.retry_on) and not isinstance(exc, never),
        status="timed_out" if isinstance(exc, StepTimedOut) else "failed",
        delay=exc.delay if isinstance(exc, RetryAfter) else None,
    )


def _error(attempt: Attempt, exc: BaseException) -> StepError:
    if isinstance(exc, UntilInvalid):
        return StepError("ConditionInvalid", str(exc))
    if isinstance(exc, NotYet):
        why = f"The step is not ready ({exc.why}), and does not poll. Fix: {_POLLS}."
        return step_error(exc, why)
    return step_error(exc, _halt_reason(attempt, exc))


def unrecordable(attempt: Attempt, exc: BaseException) -> None:
    """An attempt that failed, with what the ledger said. The handler does not run again: its result would be refused
    again, and its effects are there already."""
    cause = getattr(exc, "orig", None) or exc
    what = "result of the step could not be recorded" if attempt.called else "inputs of the step could not be read"
    error = step_error(cause, f"the {what}: {named(cause)}: {said(cause)}")
    _record(attempt, Failure(error, retryable=not attempt.called))


def _halt_reason(attempt: Attempt, exc: BaseException) -> str | None:
    if isinstance(exc, StepTimedOut):
        return "The step took longer than its timeout."
    if isinstance(exc, CancelledError | AsyncCancelled):
        if attempt.held.halted:
            return "The step was cancelled."
        return None if exc.args else "Something that the step awaited was cancelled; the step was not."
    return None


def _record(attempt: Attempt, failure: Failure) -> None:
    """With its inputs; if the ledger does not take that, without them and its error; else as lost with its worker."""
    error = failure.error
    trace = error.traceback and kept_traceback(attempt.scrubbed(error.traceback))
    kept = StepError(error.type, attempt.scrubbed(error.message)[:MESSAGE_LIMIT], trace, error.frame)
    inputs, jitter = attempt.shown_inputs, attempt.ledger.jitter()
    attempt.failure = failure = replace(failure, error=kept, inputs=inputs, jitter=jitter)
    for told in (failure, replace(failure, error=_UNTOLD, inputs=None)):
        try:
            attempt.finished = _recorded(attempt, told)
            attempt.asked = monotonic()
            return
        except (LeaseLost, GaveUp):
            raise
        except Exception:
            log.exception("step.unrecorded", extra=about(attempt.lease, STALE, doing="fail"))
    settings = attempt.worker.settings
    crashes, deploys = settings.crash_limit, settings.deploy_limit
    lost = release.end_owned(attempt.ledger, attempt.lease.owner, crash_limit=crashes, deploy_limit=deploys)
    attempt.finished = Finished(dispatches=lost, attempt="crashed")
    log_unrecorded(attempt, reason="given up as lost")


def _recorded(attempt: Attempt, failure: Failure) -> Finished:
    return _asked_again(attempt, lambda: fail_step.fail(attempt.ledger, attempt.lease, failure))


def _asked_again(attempt: Attempt, ask: Callable[[], Finished]) -> Finished:
    """Through an outage of the ledger, in which the first try may have been recorded."""
    outage = attempt.outage(2)

    def record() -> Finished:
        try:
            return ask()
        except LeaseLost:
            if outage.tried:  # the first try was recorded, or the keeper ended the claim: both are final
                return Finished()
            raise

    return retry_through_outage(outage, "fail", record)


def log_unrecorded(attempt: Attempt, **facts: object) -> None:
    """What the ledger does not have, the log has: with the traceback of the failure, if it was one."""
    error = attempt.failure.error if attempt.failure is not None else None
    told = {} if error is None else {"error": f"{error.type}: {error.message}"[:300]}
    whole = about(attempt.lease, STALE, **facts, **told)
    trace, kind = (error.traceback, error.type) if error is not None else (None, None)
    line(logging.ERROR, "step.unrecorded", whole, trace, kind)
