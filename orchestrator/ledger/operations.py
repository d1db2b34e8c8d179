"""Operations on many runs: which runs they are about, whose turn it is, what became of each."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from pydantic_core import to_jsonable_python
from sqlalchemy import ColumnElement, Connection, Row, Select, Text, and_, case, func, insert, literal, or_, select
from sqlalchemy import type_coerce as typed

from orchestrator.core import operations as core
from orchestrator.core.operations import Action, OperationEvent, OperationState, Outcome
from orchestrator.core.operations import operation_sources as sources
from orchestrator.core.operations import operation_target as target
from orchestrator.core.runfilter import RunFilter
from orchestrator.core.states import RunStatus
from orchestrator.ledger import listing
from orchestrator.ledger.endings import span_of
from orchestrator.ledger.reads.runs import STATUS
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.schema import flow_operation_runs, flow_runs

COUNTED: Final = listing.MANY
"""Runs that are left out are counted up to this."""


@dataclass(frozen=True, slots=True)
class Which:
    """The runs that an operation is about: those that match, or those that are named. `asked` is how the filter was
    asked for, where it was by a query: of that, `age<1d` stays the same while its times move."""

    filter: RunFilter | None = None
    ids: tuple[UUID, ...] = ()
    asked: Mapping[str, JsonValue] | None = None

    def told(self) -> Mapping[str, JsonValue]:
        """As JSON: what was asked, and nothing else."""
        if self.filter is None:
            return {"ids": [str(id) for id in sorted(self.ids)]}
        plain: dict[str, JsonValue] = to_jsonable_python(asdict(self.filter))
        return plain if self.asked is None else self.asked

    def kept(self) -> Mapping[str, JsonValue]:
        """As it is kept with the operation; ids that were named are among its runs."""
        return {"ids": len(self.ids)} if self.filter is None else self.told()


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An operation. `total`: its runs, listed when it was made; `counts`: of these by outcome; `left_out`: of those
    that match and were not listed, by reason; `foreseen`: what the dry run had said; `changed_by`: who paused, resumed
    or cancelled it last."""

    id: UUID
    action: Action
    state: OperationState
    reason: str
    by: str
    wanted: dict[str, JsonValue]
    options: dict[str, bool]
    total: int
    foreseen: int | None
    left_out: dict[str, int]
    counts: dict[str, int]
    created_at: datetime
    changed_by: str | None
    changed_at: datetime | None
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        return self.state in core.FINAL_OPERATION

    @property
    def pending(self) -> int:
        """Runs without an outcome."""
        return self.counts.get(Outcome.PENDING, 0)

    @property
    def moved(self) -> bool:
        """Whether it got other runs than the dry run had said, as far as their number tells."""
        return self.foreseen is not None and self.foreseen != self.total


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """What became of one run. `detail`: why it was left out, or the last error; `tries`: those that ended with one."""

    run_id: UUID
    outcome: Outcome
    detail: str | None
    tries: int
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Job:
    """What is done to each run of an operation, and for whom. `key`: of whoever may ask for it again."""

    id: UUID
    action: Action
    reason: str
    by: str
    options: Mapping[str, bool]
    key: str | None = None

    def hash(self, which: Which) -> str:
        """Another one for another request."""
        asked = [self.action, self.reason, dict(self.options), dict(which.told())]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


# ---- which runs ----


def count(tx: Connection, action: Action, which: Which) -> tuple[int, dict[str, int]]:
    """How many runs the action would be done to, and those that it would not, by reason.

    Raises:
        FlowNotFound: nothing matches, and a flow that is named is not registered.
        QueryInvalid: as `listing.list_runs`.
    """
    run(tx, "plan_for_these")
    fits = _matching(tx, which).where(_fits(action)).limit(core.MOST_RUNS + 1).subquery()
    affected = tx.execute(select(func.count()).select_from(fits)).scalar_one()
    rest = (
        _matching(tx, which)
        .add_columns(_reason(action).label("reason"))
        .where(~_fits(action))
        .limit(COUNTED)
        .subquery()
    )
    by_reason = select(rest.c.reason, func.count().label("n")).group_by(rest.c.reason)
    left_out: dict[str, int] = {row.reason: row.n for row in tx.execute(by_reason)}
    if unknown := len(set(which.ids)) - affected - sum(left_out.values()) if which.ids else 0:
        left_out[core.UNKNOWN] = unknown
    if which.filter is not None and not affected and not left_out:
        listing.check_flows(tx, which.filter)
    return affected, left_out


def add(
    tx: Connection, job: Job, which: Which, *, foreseen: int | None, left_out: Mapping[str, int]
) -> OperationRow | None:
    """Write an operation down, and list its runs: those that are named, or those that match and that it could be done
    to now. None when there is one of that id or key already."""
    if job.key is not None:
        run(tx, "free_operation_key", key=job.key)
    new = one(
        tx,
        "add_operation",
        id=job.id,
        action=job.action,
        wanted=json.dumps(dict(which.kept())),
        options=json.dumps(dict(job.options)),
        reason=job.reason,
        by=job.by,
        foreseen=foreseen,
        left_out=json.dumps(dict(left_out)),
        key=job.key,
        hash=job.hash(which),
    )
    if new is None:
        return None
    if which.ids:
        run(tx, "add_operation_ids", operation_id=job.id, run_ids=list(which.ids))
    else:
        chosen = _matching(tx, which, literal(job.id)).where(_fits(job.action)).limit(core.MOST_RUNS + 1)
        run(tx, "plan_for_these")
        tx.execute(insert(flow_operation_runs).from_select(["operation_id", "run_id"], chosen))
    run(tx, "count_operation", operation_id=job.id)
    return get(tx, job.id)


def asked_before(tx: Connection, job: Job) -> tuple[UUID, str] | None:
    """The operation of that id or key, and the hash of what it was asked for with."""
    row = one(tx, "operation_asked_before", id=job.id, key=job.key)
    return None if row is None else (row.id, row.request_hash)


def _matching(tx: Connection, which: Which, *before: ColumnElement[Any]) -> Select[Any]:
    chosen = select(*before, flow_runs.c.id)
    if which.filter is None:
        return chosen.where(flow_runs.c.id.in_(which.ids))
    return listing.matching(tx, chosen, which.filter)


def _fits(action: Action) -> ColumnElement[bool]:
    """Whether a run is one that the action can be done to, as far as its own row tells."""
    run_ = flow_runs.c
    is_open, stopping = run_.ended_at.is_(None), typed(run_.halt, Text).is_not(None)
    match action:
        case Action.CANCEL:
            return and_(is_open, ~stopping)
        case Action.RETRY:
            ended = and_(~is_open, RunStatus.SUCCEEDED.value != STATUS)
            return and_(listing.unhappy(), or_(ended, and_(is_open, ~stopping, run_.failures > 0)))
        case Action.DELETE:
            return ~is_open


def _reason(action: Action) -> ColumnElement[str]:
    """Why not, of a run that does not fit."""
    run_ = flow_runs.c
    match action:
        case Action.CANCEL:
            return case((run_.ended_at.is_not(None), core.ENDED), else_=core.STOPPING)
        case Action.RETRY:
            stopping = and_(run_.ended_at.is_(None), typed(run_.halt, Text).is_not(None))
            succeeded = RunStatus.SUCCEEDED.value == STATUS
            return case((succeeded, core.SUCCEEDED), (stopping, core.STOPPING), else_=core.NOTHING_FAILED)
        case Action.DELETE:
            return literal(core.OPEN)


# ---- reading ----


def get(tx: Connection, operation_id: UUID) -> OperationRow | None:
    """One operation."""
    row = one(tx, "operation", operation_id=operation_id)
    return None if row is None else _row(row)


def page(tx: Connection, last: UUID | None, limit: int, *, only_open: bool) -> list[OperationRow]:
    """The newest operations, or the next ones after `last`."""
    return [_row(row) for row in run(tx, "operations", last=last, limit=limit, open=only_open)]


def find(tx: Connection, digits: str) -> list[UUID]:
    """A few operations whose id begins with these hexadecimal digits, or else ends with them."""
    low, high = span_of(digits)
    found = [row.id for row in run(tx, "operations_beginning", low=low, high=high)]
    return found or [row.id for row in run(tx, "operations_ending", ending=digits)]


def outcomes(
    tx: Connection, operation_id: UUID, last: UUID | None, limit: int, outcome: Outcome | None
) -> list[OutcomeRow]:
    """A page of what became of its runs, from the one after the run `last`."""
    rows = run(tx, "operation_runs", operation_id=operation_id, last=last, limit=limit, outcome=outcome)
    return [OutcomeRow(row.run_id, Outcome(row.outcome), row.detail, row.tries, row.at) for row in rows]


def _row(row: Row[Any]) -> OperationRow:
    facts = dict(row._mapping)
    return OperationRow(
        **{**facts, "action": Action(row.action), "state": OperationState(row.state), "options": dict(row.options)}
    )


# ---- working it off ----


def due(tx: Connection, operations: int, runs: int) -> list[tuple[Job, UUID | None]]:
    """Some runs of each of the oldest operations that go on; None for one with no run whose turn it is."""
    return [
        (Job(row.operation_id, Action(row.action), row.reason, row.by, row.options), row.run_id)
        for row in run(tx, "operations_due", count=operations, limit=runs)
    ]


def take(tx: Connection, operation_id: UUID, run_id: UUID) -> bool:
    """Whether it is the caller's to do: it is written down as done, and the caller does it in this transaction."""
    return one(tx, "take_operation_run", operation_id=operation_id, run_id=run_id) is not None


def leave_out(tx: Connection, operation_id: UUID, run_id: UUID, why: str) -> None:
    """The run does not allow it."""
    run(tx, "leave_operation_run", operation_id=operation_id, run_id=run_id, detail=why)


def postpone(tx: Connection, operation_id: UUID, run_id: UUID, error: str, most: int) -> None:
    """It ended with an error; the `most`-th one is the last."""
    run(tx, "postpone_operation_run", operation_id=operation_id, run_id=run_id, detail=error, most=most)


def hold(tx: Connection, operation_id: UUID) -> OperationState | None:
    """Lock it: nothing of it is under way, and its state is this. None when there is none."""
    row = one(tx, "hold_operation", operation_id=operation_id)
    return None if row is None else OperationState(row.state)


def any_pending(tx: Connection, operation_id: UUID) -> bool:
    """Whether a run of it has no outcome."""
    row = one(tx, "any_pending", operation_id=operation_id)
    return row is not None and bool(row.found)


def move(tx: Connection, operation_id: UUID, state: OperationState, event: OperationEvent, by: str | None) -> bool:
    """Whether `event` may leave the state that it is held in; then it was moved."""
    if state not in sources(event):
        return False
    new = target(event)
    run(tx, "move_operation", operation_id=operation_id, state=new, by=by, over=new in core.FINAL_OPERATION)
    return True


def drop(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove operations that ended `ttl` ago; how many."""
    row = one(tx, "drop_operations", ttl=ttl, page=page)
    return int(row.removed) if row else 0
