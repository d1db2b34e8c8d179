"""What went wrong in runs: those whose errors are alike are one group."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from orchestrator.core.runfilter import ALL, RunFilter
from orchestrator.ledger.listing import MANY, matching, unhappy
from orchestrator.ledger.rows import run
from orchestrator.ledger.schema import flow_runs
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Runs that failed in the same way; those that were stopped are one group for each way. `type`, `message` and
    `example` (a run's id) are those of the last one; `first` and `last`: when such runs were accepted."""

    fingerprint: str | None
    type: str
    message: str
    flows: tuple[str, ...]
    count: int
    first: datetime
    last: datetime
    example: UUID


def errors(ledger: Ledger, wanted: RunFilter = ALL, *, most: int = MANY) -> list[ErrorGroup]:
    """The unhappy runs, the newest `most` of them, by what went wrong: the most frequent first.

    Raises:
        QueryInvalid: as `list_runs`.
    """
    run_ = flow_runs.c
    told = [func.coalesce(run_.error.op("->>")(part), "").label(part) for part in ("type", "message")]
    name = func.coalesce(run_.fingerprint, run_.error.op("->>")("type")).label("name")
    with ledger.tx() as tx:
        run(tx, "plan_for_these")
        newest = matching(tx, select(run_.id, run_.flow, run_.created_at, run_.fingerprint, name, *told), wanted)
        newest = newest.where(unhappy(), run_.error.is_not(None)).order_by(run_.id.desc()).limit(most)
        return [_group(*row) for row in tx.execute(_grouped(newest.subquery().c))]


def _group(fingerprint: str | None, type_: str, message: str, flows: list[str], *rest: Any) -> ErrorGroup:
    return ErrorGroup(fingerprint, type_, message, tuple(flows), *rest)


def _grouped(one: Any) -> Select[Any]:
    """Grouped and aggregated, in the order of the fields of `ErrorGroup`."""

    def last(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.array_agg(aggregate_order_by(column, one.id.desc()))[1]

    count, newest = func.count(), func.max(one.created_at)
    flows = func.array_agg(one.flow.distinct())
    return (
        select(last(one.fingerprint), last(one.type), last(one.message), flows, count)
        .add_columns(func.min(one.created_at), newest, last(one.id))
        .group_by(one.name)
        .order_by(count.desc(), newest.desc())
    )
