"""The spans that are made when a run has ended: its own, and those of steps whose ends no attempt tells."""

from collections.abc import Iterator
from datetime import datetime
from time import time_ns
from typing import Final

from uuid_utils.compat import uuid7

from orchestrator.core.facts import Lease, StepOf
from orchestrator.core.happened import Delivered, Ended, RunOf
from orchestrator.core.trace import Trace, tick
from orchestrator.core.traced import Past, Place, RunPast, TracedRun, TracedStep
from orchestrator.observe.traces.span import DELIVER, RECEIVE, STEP, TICK, TRIGGER, WHEN, Span, of_run, of_step

_FROM_OUTSIDE: Final = frozenset({"manual", "http", "webhook"})
"""Triggers of runs that nothing in the ledger led to."""
TICKS: Final = frozenset({"cron", "backfill"})
"""Triggers of runs that a schedule starts."""


def says_all(trace: Trace, run: Lease, past: Past) -> bool:
    """Whether whoever ended the run knows all of it: it asks nothing of the ledger."""
    return not trace.segments and run.trigger in _FROM_OUTSIDE and past.is_plain(run.manifest_hash)


def of_lease(trace: Trace, run: Lease, fact: Ended) -> Span:
    """The run, as its last worker knows it."""
    ended = time_ns()
    told = of_run(run, outcome=fact.status.value)
    return Span(TRIGGER, trace, trace.root, trace.parent, ended - int(fact.took_s * 1e9), ended, told)


def of_past(trace: Trace, past: RunPast, flows: Past) -> Iterator[Span]:
    """The run, and what else there was in it; or the part of it that one of its traces tells of."""
    run = past.run
    present = Trace.of(run.id, run.trace)
    begun, is_last = (run.created_at, *present.segments), trace.segments == present.segments
    began, ended = begun[len(trace.segments)], run.ended_at if is_last else begun[len(trace.segments) + 1]
    for step in past.steps:
        if (not trace.segments or not _by(step, began)) and (is_last or _by(step, ended)):
            yield from _of_step(trace, run, step, flows)
    outcome = run.status if is_last else "waited"
    told = of_run(RunOf(run.id, run.flow, run.trigger), outcome=outcome, segment=len(trace.segments) or None)
    failed = None if outcome in ("succeeded", "waited") else outcome
    place = (trace, trace.root, trace.parent, _ns(began), _ns(ended))
    yield Span(TRIGGER, *place, told, error=failed, links=_led_to(trace, run))


def _by(step: TracedStep, ended: datetime | None) -> bool:
    return step.ended_at is not None and ended is not None and step.ended_at <= ended


def _led_to(trace: Trace, run: TracedRun) -> tuple[tuple[int, int], ...]:
    """What the run came of, if it is no part of its trace: the part before it, or the run that it repeats, the step
    that let it go, or the tick of its schedule."""
    if trace.before is not None:
        return ((trace.before.trace_id, trace.before.root),)
    if run.source is not None:
        return ((run.source.trace_id, run.source.root),)
    if run.parent is not None and run.parent_step is not None and trace.parent is None:
        return ((run.parent.trace_id, run.parent.step(run.parent_step)),)
    if run.schedule is not None and run.scheduled_for is not None and run.trigger in TICKS:
        return (tick(run.flow, run.schedule, run.scheduled_for),)
    return ()


def of_tick(run: TracedRun) -> Span | None:
    """That a schedule starts this run."""
    if run.schedule is None or run.scheduled_for is None:
        return None
    trace_id, span_id = tick(run.flow, run.schedule, run.scheduled_for)
    told = of_run(RunOf(run.id, run.flow, run.trigger), schedule=run.schedule, scheduled=run.scheduled_for.isoformat())
    at = _ns(run.created_at)
    return Span(TICK, Trace(run.id, trace_id), span_id, None, at, at, told, "producer")


def of_webhook(trace: Trace, fact: Delivered) -> Span:
    """A delivery that started the run, which is below it."""
    asked_in = Trace.of(fact.run.run_id, fact.came)
    ended = time_ns()
    told = of_run(fact.run, webhook=fact.name)
    return Span(RECEIVE, trace, trace.received, asked_in.parent, ended - int(fact.took_s * 1e9), ended, told, "server")


def of_signal(trace: Trace, fact: Delivered) -> Span:
    """A signal: a part of the trace in which it was sent, or of one of its own, with a link to the wait that took it;
    or, where it is kept for one, to the run."""
    ended = time_ns()
    own = Trace(fact.run.run_id, uuid7().int)
    asked_in = Trace.of(fact.run.run_id, fact.came)
    place = asked_in if asked_in.parent is not None else own
    taken = trace.root if fact.step_key is None else trace.step(fact.step_key)
    told = of_run(fact.run, signal=fact.name) | ({} if fact.step_key is None else {"floworch.step.key": fact.step_key})
    span_id, began = place.further("", f"signal {ended}"), ended - int(fact.took_s * 1e9)
    links = ((trace.trace_id, taken),)
    return Span(DELIVER, place, span_id, place.parent, began, ended, told, "producer", links=links)


def above(trace: Trace, place: Place) -> int:
    """The span that a step is below: the item or the loop that it is in, or its run."""
    return trace.root if place.inside is None else trace.step(place.inside)


def joined(trace: Trace, place: Place, past: Past) -> tuple[tuple[int, int], ...]:
    """The steps that a step joins; in another trace, if they ended before this one began."""
    found = []
    for key in place.joins:
        before = past.step(trace.run_id, key, None) if trace.segments else None
        ended = None if before is None else before.step.ended_at
        of = trace if ended is None else trace.at(ended)
        found.append((of.trace_id, of.step(key)))
    return tuple(found)


def _of_step(trace: Trace, run: TracedRun, step: TracedStep, flows: Past) -> Iterator[Span]:
    key, ended = step.key, _ns(step.ended_at)
    place = flows.place(run.manifest_hash, key)
    told = StepOf(run.id, run.flow, run.trigger, key, step.type or step.kind, step.queue)
    error = step.status if step.status == "failed" else None
    links = joined(trace, place, flows)
    facts = of_step(told, outcome=step.status, attempts=step.attempts or None)
    began = min(_ns(step.began_at), ended)
    yield Span(STEP, trace, trace.step(key), above(trace, place), began, ended, facts, error=error, links=links)
    if place.when is not None:
        whether = of_step(told, outcome="false" if step.status == "skipped" else "true")
        yield Span(WHEN, trace, trace.further(key, "when"), trace.step(key), began, began, whether)


def _ns(at: datetime | None) -> int:
    return time_ns() if at is None else int(at.timestamp() * 1_000_000) * 1000
