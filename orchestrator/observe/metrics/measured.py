"""The observer that counts."""

from typing import Final

from orchestrator.core.happened import (
    Accepted,
    Dispatched,
    Ended,
    Failed,
    Operated,
    Refused,
    Skipped,
    Slow,
    Started,
    Succeeded,
    Ticked,
    Waited,
)
from orchestrator.observe.metrics.meter import Meter
from orchestrator.observe.metrics.table import (
    COMPLETIONS_REFUSED,
    CRON_TICKS,
    DATABASE_SLOW_STATEMENTS,
    DISPATCH_DUPLICATES_SUPPRESSED,
    DISPATCH_PUBLISHED,
    DISPATCH_REPUBLISHED,
    OPERATORS_ACTIONS,
    RUNS_COMPLETED,
    RUNS_DURATION,
    RUNS_REFUSED,
    RUNS_STARTED,
    SIGNALS_WAIT,
    STEPS_CRASHED,
    STEPS_DURATION,
    STEPS_POLL_ATTEMPTS,
    STEPS_QUEUE_DELAY,
    STEPS_RETRIES,
    STEPS_SKIPPED,
)
from orchestrator.observe.uninterested import Uninterested

_UNKNOWN: Final = "unknown"
"""What was not read: see `happened.Run`. A loop has no type of its own."""


class Measured(Uninterested):
    """Each fact, as what it adds to which metrics."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def accepted(self, fact: Accepted) -> None:
        self._meter.count(RUNS_STARTED, fact.run.flow, fact.run.trigger or _UNKNOWN)

    def started(self, fact: Started) -> None:
        if fact.queue_wait_s:  # a step of a chain was in no queue
            self._meter.observe(STEPS_QUEUE_DELAY, fact.step.queue, value=fact.queue_wait_s * 1000)

    def succeeded(self, fact: Succeeded) -> None:
        flow, kind = fact.step.flow, fact.step.type or _UNKNOWN
        self._meter.observe(STEPS_DURATION, flow, kind, "ok", value=fact.took_s * 1000)
        if fact.asked is not None:
            self._meter.observe(STEPS_POLL_ATTEMPTS, flow, kind, value=fact.asked)

    def failed(self, fact: Failed) -> None:
        flow, kind = fact.step.flow, fact.step.type or _UNKNOWN
        if fact.took_s is not None:
            self._meter.observe(STEPS_DURATION, flow, kind, fact.status, value=fact.took_s * 1000)
        if fact.status == "crashed":
            self._meter.count(STEPS_CRASHED, flow, kind)
        if fact.again:
            self._meter.count(STEPS_RETRIES, flow, kind, fact.status)

    def skipped(self, fact: Skipped) -> None:
        self._meter.count(STEPS_SKIPPED, fact.step.flow, fact.step.type or _UNKNOWN)

    def dispatched(self, fact: Dispatched) -> None:
        self._meter.count(DISPATCH_REPUBLISHED if fact.again else DISPATCH_PUBLISHED, fact.dispatch.queue)

    def refused(self, fact: Refused) -> None:
        if fact.what == "start":
            self._meter.count(RUNS_REFUSED, fact.reason)
        elif fact.what == "message":
            self._meter.count(DISPATCH_DUPLICATES_SUPPRESSED, fact.queue or _UNKNOWN)
        elif fact.what == "result":
            self._meter.count(COMPLETIONS_REFUSED, fact.reason.replace(" ", "_"))

    def ended(self, fact: Ended) -> None:
        self._meter.count(RUNS_COMPLETED, fact.run.flow, fact.status.value)
        self._meter.observe(RUNS_DURATION, fact.run.flow, fact.status.value, value=fact.took_s)

    def waited(self, fact: Waited) -> None:
        self._meter.observe(SIGNALS_WAIT, fact.flow, value=fact.waited_s)

    def ticked(self, fact: Ticked) -> None:
        self._meter.count(CRON_TICKS, fact.outcome, fact.by, by=fact.count)

    def operated(self, fact: Operated) -> None:
        self._meter.count(OPERATORS_ACTIONS, fact.action)

    def slow(self, fact: Slow) -> None:
        self._meter.count(DATABASE_SLOW_STATEMENTS, fact.statement)
