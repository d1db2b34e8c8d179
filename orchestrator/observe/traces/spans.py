"""The observer that makes spans: one for each attempt, its step and its run, when what they tell of has ended."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from time import time_ns
from typing import Any, Final
from uuid import UUID

from orchestrator import forks
from orchestrator.core.facts import Lease, StepOf
from orchestrator.core.happened import (
    Accepted,
    Delivered,
    Ended,
    Failed,
    Polled,
    Split,
    Started,
    Step,
    Succeeded,
)
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.core.trace import Trace
from orchestrator.core.traced import Past, Place, RunPast, StepPast, TracedAttempt
from orchestrator.observe import observer
from orchestrator.observe.traces import ends, incoming
from orchestrator.observe.traces.otel import Provider, current
from orchestrator.observe.traces.span import EXECUTE, POLL, RETRY, STEP, WHEN, Span, of_step
from orchestrator.observe.uninterested import Uninterested

_WITH_RUN: Final = frozenset({"cancelled", "skipped"})
"""How steps end whose spans are made with that of their run."""


@dataclass(frozen=True, slots=True)
class _Done:
    """An attempt, or a question of a step that polls, that ended here just now; and the attempt before it."""

    name: str
    took_s: float
    outcome: str
    error: str | None = None
    before: TracedAttempt | None = None


@dataclass(frozen=True, slots=True)
class _Over:
    """A step that ended: from when to when, how, and with which error."""

    began: int
    ended: int
    status: str
    error: str | None


class Spans(Uninterested):
    """Nothing is open but the attempts that run in this process; the rest is worked out when it is over."""

    def __init__(self, provider: Provider, past: Past) -> None:
        self.provider = provider
        self._past = past
        self._running: dict[tuple[UUID, str, int], Any] = {}
        forks.watch(self)

    def after_fork(self) -> None:
        """See `forks.Forked`: the child tells of what happens in it by a provider of its own."""
        observer.unlisten(self)
        incoming.decide_by(None)
        forks.inherited(self)

    def started(self, fact: Started) -> None:
        lease = fact.step
        if not isinstance(lease, Lease):
            return
        trace = Trace.of(lease.run_id, lease.trace)
        span_id = trace.claim(lease.step_key, lease.fence)
        if self.provider.samples(trace):
            now = time_ns()
            span = Span(EXECUTE, trace, span_id, trace.step(lease.step_key), now, now, _executed(lease), "consumer")
            self._running[_key(lease)] = self.provider.begin(span)
        else:
            self._running[_key(lease)] = self.provider.unrecorded(trace, span_id)

    def running(self, lease: Lease) -> Any:
        """The span of an attempt that runs here."""
        return self._running.get(_key(lease))

    def within(self, lease: Lease) -> AbstractContextManager[None]:
        """In this block the span of the attempt is the current one."""
        return current(self._running[_key(lease)])

    def forget(self, lease: Lease) -> None:
        """It was not recorded here: whoever ended its claim tells of it, under the same id."""
        self._running.pop(_key(lease), None)

    def succeeded(self, fact: Succeeded) -> None:
        self._ended_here(fact.step, fact.took_s, "succeeded", None)

    def failed(self, fact: Failed) -> None:
        if fact.took_s is not None and isinstance(fact.step, Lease):
            self._ended_here(fact.step, fact.took_s, fact.status, fact.failure.error.type)
        else:
            self._ended_elsewhere(fact)

    def polled(self, fact: Polled) -> None:
        lease = fact.step
        if isinstance(lease, Lease) and (running := self._running.pop(_key(lease), None)) is not None:
            trace = Trace.of(lease.run_id, lease.trace)
            self.provider.end(running, _executing(trace, lease, _Done(POLL, fact.took_s, "not_ready")))

    def ended(self, fact: Ended) -> None:
        run = fact.run
        if not self.provider.is_ours:
            return
        if isinstance(run, Lease):
            trace = Trace.of(run.run_id, run.trace)
            if not self.provider.samples(trace):
                return
            if fact.status is RunStatus.SUCCEEDED and ends.says_all(trace, run, self._past):
                self.provider.emit(ends.of_lease(trace, run, fact))
                return
        past = self._past.run(run.run_id)
        if past is not None and past.run.status in FINAL_RUN:
            self._tell(past, Trace.of(past.run.id, past.run.trace))

    def split(self, fact: Split) -> None:
        past = self._past.run(fact.run.run_id)
        before = None if past is None else Trace.of(past.run.id, past.run.trace).before
        if past is not None and before is not None:
            self._tell(past, before)

    def _tell(self, past: RunPast, trace: Trace) -> None:
        if self.provider.is_ours and self.provider.samples(trace):
            for span in ends.of_past(trace, past, self._past):
                self.provider.emit(span)

    def accepted(self, fact: Accepted) -> None:
        """A run is told with its end; what is told now is the tick that started it."""
        if fact.run.trigger not in ends.TICKS or not self.provider.is_ours:
            return
        past = self._past.run(fact.run.run_id)
        span = None if past is None else ends.of_tick(past.run)
        if span is not None and past is not None and self.provider.samples(Trace.of(past.run.id, past.run.trace)):
            self.provider.emit(span)

    def delivered(self, fact: Delivered) -> None:
        past = self._past.run(fact.run.run_id)
        if past is None or not self.provider.is_ours:
            return
        trace = Trace.of(past.run.id, past.run.trace)
        span = ends.of_webhook(trace, fact) if fact.what == "webhook" else ends.of_signal(trace, fact)
        if self.provider.samples(trace):
            self.provider.emit(span)

    def _ended_here(self, step: Step, took_s: float, status: str, error: str | None) -> None:
        if not isinstance(step, Lease) or (running := self._running.pop(_key(step), None)) is None:
            return
        trace = Trace.of(step.run_id, step.trace)
        if not self.provider.samples(trace):
            return
        past = None
        if step.attempt > 1 or error is not None:
            past = self._past.step(step.run_id, step.step_key, step.attempt)
        before = None if past is None else past.before
        executed = _executing(trace, step, _Done(EXECUTE, took_s, status, error, before))
        self.provider.end(running, executed)
        if not self.provider.is_ours:
            return
        if before is not None:
            self._retried(trace, step, before, executed.began)
        if error is not None and (past is None or not _is_over(past, step.attempt)):
            return
        began = executed.began - int(step.queue_wait_s * 1e9) if past is None else ns(past.step.began_at)
        became = "succeeded" if past is None or error is None else past.step.status
        place = self._past.place(step.manifest_hash, step.step_key)
        self._step(trace, step, _Over(began, executed.ended, became, error), place)

    def _ended_elsewhere(self, fact: Failed) -> None:
        """By a keeper: its worker is gone, or nobody claimed it."""
        step = fact.step
        past = self._past.step(step.run_id, step.step_key, step.attempt)
        if past is None or not self.provider.is_ours:
            return
        trace = Trace.of(step.run_id, past.run.trace)
        if not self.provider.samples(trace):
            return
        told = StepOf(
            step.run_id, step.flow, past.run.trigger, step.step_key, past.step.type, past.step.queue, step.attempt
        )
        error, attempt, ended = fact.failure.error.type, past.attempt, time_ns()
        if attempt is not None and step.attempt is not None:
            self._lost(trace, told, attempt, past.before, error)
            ended = ns(attempt.ended_at)
        if _is_over(past, step.attempt):
            began = ns(past.step.began_at, ended)
            place = self._past.place(past.run.manifest_hash, step.step_key)
            self._step(trace, told, _Over(began, ended, past.step.status, error), place)

    def _lost(self, trace: Trace, step: Step, attempt: TracedAttempt, before: TracedAttempt | None, error: str) -> None:
        key, began = step.step_key, ns(attempt.began_at)
        told = _executed(step) | {"floworch.outcome": attempt.status}
        place = (trace, trace.claim(key, attempt.fence), trace.step(key), began, ns(attempt.ended_at))
        self.provider.emit(Span(EXECUTE, *place, told, "consumer", error, _tried(trace, key, before)))
        if before is not None:
            self._retried(trace, step, before, began)

    def _retried(self, trace: Trace, step: Step, before: TracedAttempt, until: int) -> None:
        """The pause between two attempts."""
        if before.status == "polled" or before.ended_at is None or trace.at(before.ended_at) is not trace:
            return
        key, began = step.step_key, ns(before.ended_at)
        told = of_step(step, attempt=step.attempt, outcome=before.status, after=before.error_type)
        span_id = trace.further(key, f"retry {step.attempt}")
        self.provider.emit(Span(RETRY, trace, span_id, trace.step(key), began, max(began, until), told))

    def _step(self, trace: Trace, step: Step, over: _Over, place: Place) -> None:
        if over.status in _WITH_RUN:
            return
        key, began = step.step_key, over.began
        links = ends.joined(trace, place, self._past)
        told = of_step(step, outcome=over.status, attempts=step.attempt)
        above = ends.above(trace, place)
        whole = Span(STEP, trace, trace.step(key), above, began, over.ended, told, error=over.error, links=links)
        self.provider.emit(whole)
        if place.when is not None:
            told = of_step(step, outcome="true")
            self.provider.emit(Span(WHEN, trace, trace.further(key, "when"), trace.step(key), began, began, told))


def _key(lease: Lease) -> tuple[UUID, str, int]:
    return lease.run_id, lease.step_key, lease.fence


def _is_over(past: StepPast, attempt: int | None) -> bool:
    """Whether that was the step's last attempt; a later one tells of its end itself."""
    return past.step.ended_at is not None and attempt in (None, past.step.attempts)


def _executed(step: Step) -> dict[str, Any]:
    named = {"messaging.system": "celery", "messaging.destination.name": step.queue}
    return of_step(step, attempt=step.attempt, **named)


def _executing(trace: Trace, lease: Lease, done: _Done) -> Span:
    key, ended = lease.step_key, time_ns()
    links = _tried(trace, key, done.before)
    place = (trace, trace.claim(key, lease.fence), trace.step(key), ended - int(done.took_s * 1e9), ended)
    return Span(done.name, *place, {"floworch.outcome": done.outcome}, "consumer", done.error, links)


def _tried(trace: Trace, step_key: str, before: TracedAttempt | None) -> tuple[tuple[int, int], ...]:
    """The attempt before."""
    if before is None or before.status == "polled" or before.ended_at is None:
        return ()
    of = trace.at(before.ended_at)
    return ((of.trace_id, of.claim(step_key, before.fence)),)


def ns(at: datetime | None, otherwise: int = 0) -> int:
    """As OpenTelemetry counts time."""
    return otherwise if at is None else int(at.timestamp() * 1_000_000) * 1000
