"""The observer that writes the log lines."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core.happened import (
    Accepted,
    Dispatched,
    Ended,
    Failed,
    Polled,
    Refused,
    Run,
    Skipped,
    Slow,
    Started,
    Succeeded,
)
from orchestrator.observe.logs import (
    DISPATCHED,
    LEASE_EXPIRED,
    RUN_ACCEPTED,
    RUN_ENDED,
    STALE,
    STEP_FAILED,
    STEP_POLLED,
    STEP_SKIPPED,
    STEP_STARTED,
    STEP_SUCCEEDED,
    SUPPRESSED,
    about,
    about_dispatch,
    line,
    log,
)
from orchestrator.observe.uninterested import Uninterested

_LOST: Final = frozenset({"crashed", "released"})
"""How attempts end whose worker did not live to see it."""


class LogLines(Uninterested):
    """One line per fact; no line is composed for a level that is off."""

    def accepted(self, fact: Accepted) -> None:
        if log.isEnabledFor(logging.DEBUG):
            line(logging.DEBUG, "run.accepted", _about_run(fact.run, RUN_ACCEPTED, trigger=fact.run.trigger))

    def started(self, fact: Started) -> None:
        if log.isEnabledFor(logging.DEBUG):
            line(logging.DEBUG, "step.started", about(fact.step, STEP_STARTED))

    def succeeded(self, fact: Succeeded) -> None:
        if log.isEnabledFor(logging.INFO):
            facts = about(fact.step, STEP_SUCCEEDED, ms=round(fact.took_s * 1000, 1))
            line(logging.INFO, "step.succeeded", facts)

    def failed(self, fact: Failed) -> None:
        failure, error = fact.failure, fact.failure.error
        told = f"{error.type}: {error.message}"[:300]
        if fact.status in _LOST:
            if error.type == "HandedBack":
                line(logging.INFO, "step.handed_back", about(fact.step, LEASE_EXPIRED, error=told))
            elif fact.took_s is None:  # else whoever runs it again says so
                line(logging.WARNING, "step.lost", about(fact.step, LEASE_EXPIRED, status=fact.status, error=told))
            return
        if not log.isEnabledFor(logging.WARNING) or (fact.took_s is None and fact.status == "cancelled"):
            return  # whoever cancelled it says so
        facts = about(fact.step, STEP_FAILED, error=told, retryable=failure.retryable)
        # A step that asks for another time knows why; everything else that fails is logged with its traceback.
        traceback = None if failure.delay is not None else error.traceback
        line(logging.WARNING, "step.failed", facts, traceback, error.type)

    def polled(self, fact: Polled) -> None:
        if log.isEnabledFor(logging.INFO):
            line(logging.INFO, "step.polled", about(fact.step, STEP_POLLED, why=fact.why[:300]))

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
            by = {} if fact.by is None else {"step_key": fact.by.step_key, "attempt": fact.by.attempt}
            how = {"status": fact.status.value, "ms": round(fact.took_s * 1000, 1)}
            line(logging.INFO, "run.ended", _about_run(fact.run, RUN_ENDED, **by, **how))

    def slow(self, fact: Slow) -> None:
        line(logging.WARNING, "statement.slow", {"statement": fact.statement, "ms": round(fact.took_s * 1000)})


def _about_run(run: Run, code: int, **facts: object) -> Mapping[str, Any]:
    return {"code": code, "run_id": run.run_id, "flow": run.flow, **facts}
