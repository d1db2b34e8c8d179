"""The observer that writes the log lines."""

import logging

from orchestrator.core.happened import Dispatched, Ended, Failed, Refused, Skipped, Started, Succeeded
from orchestrator.observe.logs import (
    DISPATCHED,
    RUN_ENDED,
    STALE,
    STEP_FAILED,
    STEP_SKIPPED,
    STEP_STARTED,
    STEP_SUCCEEDED,
    SUPPRESSED,
    about,
    about_dispatch,
    line,
    log,
)


class LogLines:
    """One line per fact; no line is composed for a level that is off."""

    def started(self, fact: Started) -> None:
        if log.isEnabledFor(logging.DEBUG):
            line(logging.DEBUG, "step.started", about(fact.step, STEP_STARTED))

    def succeeded(self, fact: Succeeded) -> None:
        if log.isEnabledFor(logging.INFO):
            facts = about(fact.step, STEP_SUCCEEDED, ms=round(fact.took_s * 1000, 1))
            line(logging.INFO, "step.succeeded", facts)

    def failed(self, fact: Failed) -> None:
        if fact.took_s is None or fact.status == "crashed" or not log.isEnabledFor(logging.WARNING):
            return  # whoever ended it, or runs it again, says so
        failure, error = fact.failure, fact.failure.error
        told = f"{error.type}: {error.message}"[:300]
        facts = about(fact.step, STEP_FAILED, error=told, retryable=failure.retryable)
        # A step that asks for another time knows why; everything else that fails is logged with its traceback.
        line(logging.WARNING, "step.failed", facts, None if failure.delay is not None else error.traceback)

    def skipped(self, fact: Skipped) -> None:
        if log.isEnabledFor(logging.DEBUG):
            line(logging.DEBUG, "step.skipped", about(fact.step, STEP_SKIPPED))

    def dispatched(self, fact: Dispatched) -> None:
        if log.isEnabledFor(logging.DEBUG):
            line(logging.DEBUG, "step.dispatched", about_dispatch(fact.dispatch, DISPATCHED, queue=fact.dispatch.queue))

    def refused(self, fact: Refused) -> None:
        whose = {"run_id": fact.run_id, "flow": fact.flow, "step_key": fact.step_key}
        if fact.what == "message" and log.isEnabledFor(logging.INFO):
            line(logging.INFO, "step.duplicate", {"code": SUPPRESSED, **whose, "dispatch": fact.number})
        elif fact.what == "result":
            facts = {"code": STALE, **whose, "attempt": fact.attempt, "reason": fact.reason}
            line(logging.WARNING, "step.stale", facts)

    def ended(self, fact: Ended) -> None:
        if log.isEnabledFor(logging.INFO):
            facts = {"code": RUN_ENDED, "run_id": fact.run.run_id, "flow": fact.run.flow}
            by = {} if fact.by is None else {"step_key": fact.by.step_key, "attempt": fact.by.attempt}
            line(logging.INFO, "run.ended", {**facts, **by, "status": fact.status.value})
