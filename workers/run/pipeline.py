"""One attempt as a pipeline: after its claim, stage by stage, to its recorded outcome and what follows.

claim   deliver.py, or the finish of the step before
inputs  read, decode
guard   the last look before the handler
handler call, encode
store   a long result, but in a transactional step
record  one commit, the handler's own in a transactional step
follow  publish, notify, and go on with the next step if it is ours already
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from orchestrator.core.facts import Failure, Finished, NotReady, StepError
from orchestrator.core.happened import Failed, Polled, Refused, Started, Succeeded
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.errors import LeaseLost
from orchestrator.observe.logs import STALE, about, log
from orchestrator.observe.observer import notify
from orchestrator.observe.scope import inside
from orchestrator.workers.run import blame, handler, offloading, polling, recording, reporting, transactional
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.blame import HandlerFailed, LostBeforeStart, TransactionLost, Unrecordable
from orchestrator.workers.run.held_lease import HeldLease
from orchestrator.workers.run.outage import GaveUp


@dataclass(frozen=True, slots=True)
class Stage:
    """What is done, and whose failure it is when that raises."""

    do: Callable[[Attempt], None]
    blame: Callable[[Attempt, BaseException], BaseException]


_INPUTS: Final = (Stage(handler.read_inputs, blame.inputs), Stage(handler.decode, blame.handlers))
_GUARD: Final = Stage(handler.guard, blame.ours)
_HANDLER: Final = (
    Stage(handler.call, blame.handlers),
    Stage(handler.encode, blame.handlers),
    Stage(polling.judge, blame.results),
    Stage(handler.still_ours, blame.ours),
)
PLAIN: Final = (
    *_INPUTS,
    _GUARD,
    *_HANDLER,
    Stage(offloading.offload, blame.ours),
    Stage(recording.success, blame.ours),
)
TRANSACTIONAL: Final = (
    *_INPUTS,
    _GUARD,
    Stage(transactional.begin, blame.ours),
    _GUARD,  # it may have waited long for its connection
    *_HANDLER,
    Stage(transactional.check_usable, blame.handlers),
    Stage(transactional.record, blame.transactions),
    Stage(transactional.commit, blame.commits),
)


def run(attempt: Attempt) -> HeldLease | None:
    """Do it all; the next step of the chain, if this worker holds it already.

    Raises:
        GaveUp: the database stayed away, and the handler was not called.
    """
    with inside(attempt.scope, alone=attempt.worker.threads == 1):
        return _run(attempt)


def _run(attempt: Attempt) -> HeldLease | None:
    heartbeat = attempt.runtime.heartbeat
    notify(Started(attempt.lease, attempt.lease.queue_wait_s))
    heartbeat.add(attempt.held)
    try:
        _record(attempt)
    except LostBeforeStart:
        log.warning("step.not_started", extra=about(attempt.lease, STALE, reason="lease lost before the start"))
    except LeaseLost:
        _refused(attempt)
    except GaveUp as exc:
        if not attempt.called:
            raise
        recording.log_unrecorded(attempt, doing=str(exc), reason="database away")
    finally:
        heartbeat.remove(attempt.held)
        if attempt.finished is None and attempt.runtime.spans is not None:
            attempt.runtime.spans.forget(attempt.lease)
    return _follow(attempt, attempt.finished) if attempt.finished is not None else None


def _record(attempt: Attempt) -> None:
    """Through all stages; or, when one of them fails, what is recorded instead."""
    try:
        with attempt.opened:
            _pass(attempt, TRANSACTIONAL if attempt.lease.transactional else PLAIN)
        return
    except (HandlerFailed, TransactionLost, Unrecordable) as exc:
        failed = exc
    attempt.held.recording = True
    if isinstance(failed, HandlerFailed):
        recording.failed(attempt, failed.error)
    elif isinstance(failed, TransactionLost):
        transactional.undone(attempt, failed)
    else:
        recording.unrecordable(attempt, failed.error)


def _pass(attempt: Attempt, stages: tuple[Stage, ...]) -> None:
    for stage in stages:
        try:
            stage.do(attempt)
        except BaseException as exc:
            blamed = stage.blame(attempt, exc)
            if blamed is exc:
                raise
            raise blamed from exc


def _refused(attempt: Attempt) -> None:
    lease = attempt.lease
    where = (lease.flow, lease.run_id, lease.step_key)
    notify(Refused("result", "result dropped", *where, attempt=lease.attempt))
    if attempt.failure is not None:
        recording.log_unrecorded(attempt, reason="result dropped")


def _tell_poll(attempt: Attempt, seen: NotReady, finished: Finished, took_s: float) -> None:
    if finished.attempt is None:
        notify(Polled(attempt.lease, seen.why, took_s))
    else:
        kind = "PollTimeout" if finished.attempt == "failed" else "NotYet"
        failure = Failure(StepError(kind, seen.why), retryable=False)
        notify(Failed(attempt.lease, failure, finished.attempt, took_s))


def _follow(attempt: Attempt, finished: Finished) -> HeldLease | None:
    """Report and publish what the commit led to; the next step, if it is claimed already."""
    took_s = monotonic() - attempt.began
    if attempt.not_ready is not None:
        _tell_poll(attempt, attempt.not_ready, finished, took_s)
    elif attempt.failure is None:
        notify(Succeeded(attempt.lease, took_s, attempt.lease.attempt if attempt.polls else None))
    else:
        status = finished.attempt or attempt.failure.status
        notify(Failed(attempt.lease, attempt.failure, status, took_s, finished.again))
    attempt.runtime.publisher.publish(finished.dispatches)
    notify_followed(attempt.lease, finished, by=attempt.lease)
    if finished.untold:
        reporting.tell(attempt)
    return HeldLease(finished.next, attempt.asked) if finished.next is not None else None
