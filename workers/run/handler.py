"""From the stored inputs to the result as text: the stages around the handler."""

import logging
import os
from concurrent.futures import CancelledError
from datetime import datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from orchestrator.authoring.context import Context, StepLog
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import claim_step, finish_step
from orchestrator.errors import LeaseLost, PayloadUnavailable
from orchestrator.ledger import schedules
from orchestrator.workers.run import capture, polling
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.blame import HandlerFailed, LostBeforeStart
from orchestrator.workers.run.log_writer import LogWriter
from orchestrator.workers.run.outage import GaveUp, retry_through_outage

if TYPE_CHECKING:
    from orchestrator.observe.traces.spans import Spans  # with OpenTelemetry's API, which may not be there


def read_inputs(attempt: Attempt) -> None:
    """Every expression is resolved.

    Raises:
        InputInvalid: one cannot be evaluated.
        PayloadUnavailable, PayloadLost: a value cannot be read in the payload store.
    """
    attempt.inputs = retry_through_outage(attempt.outage(), "read inputs", lambda: _inputs(attempt))
    fp("handler.before")


def _inputs(attempt: Attempt) -> str:
    """The payload store is waited for as long as the ledger would be; then it is what is wrong with the attempt."""
    outage = attempt.outage()
    while True:
        try:
            return claim_step.inputs(attempt.ledger, attempt.lease)
        except PayloadUnavailable as exc:
            try:
                outage.wait(exc, "read inputs")
            except GaveUp:
                raise exc from None


def decode(attempt: Attempt) -> None:
    """Into what the handler's parameters say."""
    attempt.kwargs = attempt.step.decode_inputs(attempt.inputs or "{}")


def guard(attempt: Attempt) -> None:
    """The last look before the handler: this process may have slept past its lease.

    Raises:
        LostBeforeStart: somebody else may have the step.
        HandlerFailed: its run was halted.
    """
    held, heartbeat = attempt.held, attempt.runtime.heartbeat
    if held.lost or not heartbeat.trusted(held):
        held.lost = False
        if not retry_through_outage(attempt.outage(), "confirm the lease", lambda: heartbeat.confirm(held)):
            raise LostBeforeStart
    if held.halted:
        raise HandlerFailed(CancelledError())


def call(attempt: Attempt) -> None:
    """Whatever it raises, at whatever depth, is the handler's own."""
    attempt.called = True
    step, kwargs, worker = attempt.step, attempt.kwargs, attempt.worker
    if step.context_param is not None:
        kwargs[step.context_param] = _context(attempt)
    if worker.prefork:
        worker.shared.enter(worker.slot, os.getpid(), attempt.lease)
    try:
        spans = attempt.runtime.spans
        attempt.value = _kept(attempt) if spans is None else _traced(attempt, spans)
    finally:
        if worker.prefork:
            worker.shared.leave(worker.slot)


def _traced(attempt: Attempt, spans: "Spans") -> Any:
    """Spans that it makes are below its own."""
    with spans.within(attempt.lease):
        return _kept(attempt)


def _kept(attempt: Attempt) -> Any:
    return _called(attempt) if attempt.runtime.logs is None else _heard(attempt, attempt.runtime.logs)


def _heard(attempt: Attempt, logs: LogWriter) -> Any:
    """What it logs and prints is kept."""
    with capture.capturing(attempt.scope, logs.lines(attempt.lease, attempt.scrubbed)):
        return _called(attempt)


def _called(attempt: Attempt) -> Any:
    step, kwargs = attempt.step, attempt.kwargs
    if not step.is_async:
        return step.fn(**kwargs)
    return attempt.runtime.loop.run(step.fn(**kwargs), attempt.held, _time_left_s(attempt))


def encode(attempt: Attempt) -> None:
    """
    Raises:
        OutputInvalid: it cannot be a result.
    """
    attempt.output = attempt.step.encode_output(attempt.value)
    finish_step.check_size(attempt.output, attempt.ledger.payloads)


def still_ours(attempt: Attempt) -> None:
    """
    Raises:
        LeaseLost: the handler was told to stop because its lease ran out.
    """
    fp("handler.after")
    attempt.held.recording = True
    if attempt.held.lost and (attempt.step.is_async or attempt.step.context_param is not None):
        raise LeaseLost("The handler was told to stop because its lease ran out: what it returned may be half of it.")


def _context(attempt: Attempt) -> Context:
    lease = attempt.lease

    def scheduled_for() -> datetime | None:
        """Asked by a handler, from whatever thread it runs in: with a connection of the pool, not the thread's own."""

        def ask() -> datetime | None:
            with attempt.ledger.tx() as tx:
                return schedules.scheduled_for(tx, lease.run_id)

        return retry_through_outage(attempt.outage(), "read the scheduled time", ask)

    spans = attempt.runtime.spans
    about = (str(lease.run_id), lease.step_key, lease.attempt, lease.stop_at, attempt.held.signals, attempt.tx)
    facts = {"run_id": about[0], "flow": lease.flow, "step_key": lease.step_key, "attempt": lease.attempt}
    log = StepLog(logging.getLogger("orchestrator.step"), facts)
    asked = (scheduled_for, partial(polling.state, attempt), lambda: attempt.worker.stopping)
    return Context(*about, log, *asked, spans and spans.running(lease))


def _time_left_s(attempt: Attempt) -> float | None:
    """Until the step's timeout. Both times are the database's, and were `lease` apart from the claim."""
    lease = attempt.lease
    if lease.stop_at is None:
        return None
    allowed = (lease.stop_at - lease.expires_at) + attempt.worker.settings.lease
    return max(0.0, allowed.total_seconds() - (monotonic() - attempt.began))
