"""Runs that steps of other runs started: their parents, as statements."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.states import RunStatus, StepEvent, StepStatus, sources
from orchestrator.core.trace import Trace
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.sweeps import Position


@dataclass(frozen=True, slots=True)
class Call:
    """A step that calls a flow: where it stands, the number of its last child, and which run that is."""

    status: StepStatus
    attempt: int
    child: UUID | None


@dataclass(frozen=True, slots=True)
class Child:
    """A run that was called."""

    id: UUID
    flow: str
    manifest_hash: str
    status: RunStatus
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Caller:
    """What the runs that a run calls take over, tags and trace; and how deep it is: 1, when nobody called it."""

    tags: tuple[str, ...]
    depth: int
    trace: Trace


@dataclass(frozen=True, slots=True)
class Before:
    """The run that a call called last; `retries`: it calls again by itself, and not because of an operator."""

    child: UUID
    retries: bool


def delegate(tx: Connection, run_id: UUID, step_key: str) -> Before | None:
    """The call is RUNNING from now on: a run is started for it, or one that was goes on."""
    row = one(tx, "delegate", run_id=run_id, step_key=step_key, from_states=sources(StepEvent.DELEGATE))
    return None if row is None else Before(row.child_run_id, row.retries)


def link(tx: Connection, child: UUID, parent: UUID, step_key: str, *, detached: bool) -> None:
    """The run was started by this step of its parent; `detached`, it is on its own from now on."""
    run(tx, "link_child", child=child, parent=parent, step_key=step_key, detached=detached)


def caller(tx: Connection, run_id: UUID, limit: int) -> Caller:
    """What the runs that a run calls take over. At most `limit` is counted of its depth."""
    row = one(tx, "caller", run_id=run_id, limit=limit)
    assert row is not None
    return Caller(tuple(row.tags), row.depth, Trace.of(run_id, row.trace_context))


def parent_of(tx: Connection, run_id: UUID) -> tuple[UUID, str] | None:
    """The parent of a run that has ended, and the step of it that is to be told; None: nobody is."""
    row = one(tx, "parent_of", run_id=run_id)
    return None if row is None else (row.parent_run_id, row.parent_step_key)


def tell(tx: Connection, run_id: UUID) -> Child | None:
    """The parent knows of the end from this commit on; None when it did already, or the run goes on."""
    return _child(one(tx, "tell_parent", run_id=run_id))


def child(tx: Connection, run_id: UUID) -> tuple[Child, str] | None:
    """A run that was called, and its input (JSON text); None: it is gone."""
    row = one(tx, "child", run_id=run_id)
    return None if row is None else (_made(row), row.body)


def forget_children(tx: Connection, run_id: UUID) -> None:
    """The steps of this run that call flows, and wait to be opened, go on with none of the runs that they called."""
    run(tx, "forget_children", run_id=run_id)


def call(tx: Connection, run_id: UUID, step_key: str) -> Call:
    """A step that calls a flow."""
    row = one(tx, "call", run_id=run_id, step_key=step_key)
    assert row is not None
    return Call(StepStatus(row.status), row.attempts, row.child_run_id)


def park(tx: Connection, run_id: UUID, step_key: str, delay: timedelta, error: str) -> None:
    """RUNNING to WAITING until the next try."""
    run(tx, "call_parked", run_id=run_id, step_key=step_key, delay=delay, error=error)


def postpone(tx: Connection, run_id: UUID, step_keys: Sequence[str]) -> set[str]:
    """BLOCKED to WAITING, with their time come, for those of these calls that have called no run; which ones wait."""
    states = sources(StepEvent.PARK)
    rows = run(tx, "postpone_calls", run_id=run_id, step_keys=list(step_keys), from_states=states)
    return {row.step_key for row in rows}


def untold(tx: Connection, page: int, position: Position) -> Sequence[Row[Any]]:
    """Runs that ended, and whose parents were not told, by the time of their end."""
    return run(tx, "untold", page=page, begin=position.at, begin_run=position.run_id).all()


def to_stop(tx: Connection, parent: UUID | None, page: int) -> Sequence[Row[Any]]:
    """Open runs that a step of a halted run waits for: of this parent, or of all."""
    return run(tx, "children_to_stop", parent=parent, page=page).all()


def children_of(
    tx: Connection, run_id: UUID, step_key: str | None, page: int, after: UUID | None = None
) -> Sequence[Row[Any]]:
    """Runs that a run called, in the order of their starts."""
    begin = after or UUID(int=0)
    return run(tx, "children_of", run_id=run_id, step_key=step_key, begin_run=begin, page=page).all()


def tree_of(tx: Connection, run_id: UUID, each: int, limit: int) -> Sequence[Row[Any]]:
    """The runs below a run, the nearest first: at most `each` that one called."""
    return run(tx, "tree_of", run_id=run_id, each=each, limit=limit).all()


def open_below(tx: Connection, run_id: UUID, limit: int) -> Sequence[Row[Any]]:
    """Some runs below a run that have not ended, the nearest first."""
    return run(tx, "open_below", run_id=run_id, limit=limit).all()


def _child(row: Row[Any] | None) -> Child | None:
    return None if row is None else _made(row)


def _made(row: Row[Any]) -> Child:
    return Child(row.id, row.flow, row.manifest_hash, RunStatus(row.status), row.error)
