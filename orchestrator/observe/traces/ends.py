"""The spans that are made when a run has ended: its own, and those of steps whose ends no attempt tells."""

from collections.abc import Iterator
from datetime import datetime
from time import time_ns
from typing import Final

from orchestrator.core.facts import Lease, StepOf
from orchestrator.core.happened import Ended, RunOf
from orchestrator.core.trace import Trace
from orchestrator.core.traced import Past, Place, RunPast, TracedRun, TracedStep
from orchestrator.observe.traces.span import STEP, TRIGGER, WHEN, Span, of_run, of_step

_FROM_OUTSIDE: Final = frozenset({"manual", "http", "webhook"})
"""Triggers of runs that nothing in the ledger led to."""


def says_all(run: Lease, past: Past) -> bool:
    """Whether whoever ended the run knows all of it: it asks nothing of the ledger."""
    return run.trigger in _FROM_OUTSIDE and past.is_plain(run.manifest_hash)


def of_lease(trace: Trace, run: Lease, fact: Ended) -> Span:
    """The run, as its last worker knows it."""
    ended = time_ns()
    told = of_run(run, outcome=fact.status.value)
    return Span(TRIGGER, trace, trace.root, trace.parent, ended - int(fact.took_s * 1e9), ended, told)


def of_past(trace: Trace, past: RunPast, flows: Past) -> Iterator[Span]:
    """The run, and what else there was in it."""
    run = past.run
    for step in past.steps:
        yield from _of_step(trace, run, step, flows)
    told = of_run(RunOf(run.id, run.flow, run.trigger), outcome=run.status)
    failed = None if run.status == "succeeded" else run.status
    place = (trace, trace.root, trace.parent, _ns(run.created_at), _ns(run.ended_at))
    yield Span(TRIGGER, *place, told, error=failed)


def above(trace: Trace, place: Place) -> int:
    """The span that a step is below: the item or the loop that it is in, or its run."""
    return trace.root if place.inside is None else trace.step(place.inside)


def _of_step(trace: Trace, run: TracedRun, step: TracedStep, flows: Past) -> Iterator[Span]:
    key, ended = step.key, _ns(step.ended_at)
    place = flows.place(run.manifest_hash, key)
    told = StepOf(run.id, run.flow, run.trigger, key, step.type or step.kind, step.queue)
    error = step.status if step.status == "failed" else None
    links = tuple((trace.trace_id, trace.step(one)) for one in place.joins)
    facts = of_step(told, outcome=step.status, attempts=step.attempts or None)
    began = min(_ns(step.began_at), ended)
    yield Span(STEP, trace, trace.step(key), above(trace, place), began, ended, facts, error=error, links=links)
    if place.when is not None:
        whether = of_step(told, outcome="false" if step.status == "skipped" else "true")
        yield Span(WHEN, trace, trace.further(key, "when"), trace.step(key), began, began, whether)


def _ns(at: datetime | None) -> int:
    return time_ns() if at is None else int(at.timestamp() * 1_000_000) * 1000
