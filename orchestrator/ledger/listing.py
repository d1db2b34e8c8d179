"""Lists of runs: which ones, a page of them, how many there are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, func, literal, not_, or_, select, type_coerce

from orchestrator.core.states import RunStatus
from orchestrator.ledger import definitions
from orchestrator.ledger.reads.rows import RunRow
from orchestrator.ledger.reads.runs import STATUS, parked, row_of, selected
from orchestrator.ledger.rows import run
from orchestrator.ledger.schema import flow_runs
from orchestrator.ledger.tx import Ledger

MANY = 10_000
"""A count ends here: counting a million runs to say that there are many is not worth it."""
_SKEW = timedelta(hours=1)
"""Ids begin with the clock of whoever started the run, `created_at` is the ledger's: this is how far apart they may
be."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs. `key` is the idempotency key, `error` a part of the error's type or message, `since` and `until` are
    of the time of acceptance, the end not included."""

    flow: str | None = None
    status: RunStatus | None = None
    tag: str | None = None
    key: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None


ALL = RunFilter()


def list_runs(
    ledger: Ledger, wanted: RunFilter = ALL, *, limit: int = 50, after: UUID | None = None, inputs: bool = True
) -> list[RunRow]:
    """Runs, newest first. `after` is the last id of the page before; without `inputs` the bodies stay in the ledger.

    Raises:
        FlowNotFound: no run matches, and the flow is not registered.
    """
    query = _where(selected(inputs=inputs), wanted)
    query = query.order_by(flow_runs.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(flow_runs.c.id < after)
    with ledger.tx() as tx:
        run(tx, "plan_for_these")
        rows = [row_of(row) for row in tx.execute(query)]
        if not rows and wanted.flow is not None and wanted.flow not in definitions.names(tx):
            raise definitions.unknown_flow(tx, wanted.flow)
    return rows


def count_runs(ledger: Ledger, wanted: RunFilter = ALL, most: int = MANY) -> int:
    """How many there are; `most` stands for that many or more."""
    some = _where(select(literal(1)).select_from(flow_runs), wanted).limit(most).subquery()
    with ledger.tx() as tx:
        run(tx, "plan_for_these")
        return int(tx.execute(select(func.count()).select_from(some)).scalar_one())


def _where(query: Select[Any], wanted: RunFilter) -> Select[Any]:
    run_ = flow_runs.c
    if wanted.flow is not None:
        query = query.where(run_.flow == wanted.flow)
    if wanted.status is not None:
        query = query.where(_has_status(wanted.status))
    if wanted.tag is not None:
        query = query.where(run_.tags.contains([wanted.tag]), run_.tags != [])
    if wanted.key is not None:
        query = query.where(run_.trigger_key == wanted.key, run_.scheduled_for.is_(None))
    if wanted.error is not None:
        query = query.where(_unhappy(), _error_has(wanted.error))
    if wanted.since is not None:
        query = query.where(run_.created_at >= wanted.since, run_.id >= _first_id(wanted.since - _SKEW))
    if wanted.until is not None:
        query = query.where(run_.created_at < wanted.until, run_.id < _first_id(wanted.until + _SKEW))
    return query


def _first_id(at: datetime) -> UUID:
    """The smallest id of that millisecond."""
    return UUID(int=max(int(at.timestamp() * 1000), 0) << 80)


def _error_has(part: str) -> ColumnElement[bool]:
    """In the type or the message, whatever the case."""
    words = func.concat_ws(": ", flow_runs.c.error.op("->>")("type"), flow_runs.c.error.op("->>")("message"))
    return func.strpos(func.lower(words), func.lower(part)) > 0


def _unhappy() -> ColumnElement[bool]:
    """What is true of every run with an error: the condition of an index (`ix_flow_runs_unhappy`)."""
    return or_(type_coerce(flow_runs.c.halt, Text).is_not(None), flow_runs.c.failures > 0)


def _has_status(status: RunStatus) -> ColumnElement[bool]:
    if status is RunStatus.WAITING:
        return and_(parked(), flow_runs.c.ended_at.is_(None))
    stored: ColumnElement[bool] = STATUS.in_([status.value])
    if status is RunStatus.RUNNING:
        return and_(stored, flow_runs.c.ended_at.is_(None), not_(parked()))
    if status is RunStatus.PENDING:
        return and_(stored, flow_runs.c.ended_at.is_(None))
    return stored if status is RunStatus.SUCCEEDED else and_(stored, _unhappy())
