"""Lists of runs: which ones, a page of them, how many there are."""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Numeric,
    Select,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.core import search
from orchestrator.core.fingerprint import is_fingerprint
from orchestrator.core.runfilter import ALL, Field, Op, RunFilter, Term
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
_LAST_MS: Final = 2**48 - 1


def list_runs(
    ledger: Ledger, wanted: RunFilter = ALL, *, limit: int = 50, after: UUID | None = None, inputs: bool = True
) -> list[RunRow]:
    """Runs, newest first. `after` is the last id of the page before; without `inputs` the bodies stay in the ledger.

    Raises:
        FlowNotFound: no run matches, and the flow is not registered.
        QueryInvalid: no flow that is meant has such a search attribute, or a value is none of what it may be.
    """
    with ledger.tx() as tx:
        run(tx, "plan_for_these")
        query = matching(tx, selected(inputs=inputs), wanted).order_by(flow_runs.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(flow_runs.c.id < after)
        rows = [row_of(row) for row in tx.execute(query)]
        if not rows:
            check_flows(tx, wanted)
    return rows


def check_flows(tx: Connection, wanted: RunFilter) -> None:
    """For a question that nothing matches.

    Raises:
        FlowNotFound: it names a flow that is not registered.
    """
    unknown = [flow for flow in wanted.flows if flow not in definitions.names(tx)]
    if unknown:
        raise definitions.unknown_flow(tx, unknown[0])


def count_runs(ledger: Ledger, wanted: RunFilter = ALL, most: int = MANY) -> int:
    """How many there are; `most` stands for that many or more.

    Raises:
        QueryInvalid: as `list_runs`.
    """
    with ledger.tx() as tx:
        run(tx, "plan_for_these")
        some = matching(tx, select(literal(1)).select_from(flow_runs), wanted).limit(most).subquery()
        return int(tx.execute(select(func.count()).select_from(some)).scalar_one())


def matching(tx: Connection, query: Select[Any], wanted: RunFilter) -> Select[Any]:
    """The query, which is of `flow_runs`, for those that match only.

    Raises:
        QueryInvalid: as `list_runs`.
    """
    if search.asked(wanted):
        wanted = search.typed(wanted, _declared(tx, wanted.flows))
    for term in wanted.terms:
        query = query.where(_holds(term))
    return query


def _declared(tx: Connection, flows: Sequence[str]) -> dict[str, frozenset[search.Kind]]:
    """The search attributes of the current versions of these flows, or of all."""
    found: dict[str, frozenset[search.Kind]] = {}
    for row in run(tx, "declared_search", flows=list(flows) or None):
        for name, kinds in search.kinds(row.search, row.input_schema).items():
            found[name] = found.get(name, frozenset()) | kinds
    return found


def _holds(term: Term) -> ColumnElement[bool]:
    """Spelled as the indexes are: a condition without a negation can use them."""
    values: list[Any] = list(term.values)
    if term.field is Field.CREATED:
        found = or_(*(_accepted(term.op, at) for at in values))
    elif term.field is Field.INPUT:
        found = or_(*(_attribute(term.name, term.op, value) for value in values))
    elif term.field in _TOGETHER:
        found = _TOGETHER[term.field](values)
    else:
        found = or_(*map(_EACH[term.field], values))
    return not_(func.coalesce(found, false())) if term.negated else found


def _flow(names: list[str]) -> ColumnElement[bool]:
    return flow_runs.c.flow == names[0] if len(names) == 1 else flow_runs.c.flow.in_(names)


def _tags(tags: list[str]) -> ColumnElement[bool]:
    column = flow_runs.c.tags
    return and_(column.contains(tags) if len(tags) == 1 else column.overlap(tags), column != [])


def _keys(keys: list[str]) -> ColumnElement[bool]:
    return and_(flow_runs.c.trigger_key.in_(keys), flow_runs.c.scheduled_for.is_(None))


def _schedule(name: str) -> ColumnElement[bool]:
    flow, slash, key = name.partition("/")
    named = and_(flow_runs.c.flow == flow, flow_runs.c.trigger_key == key) if slash else flow_runs.c.trigger_key == name
    return and_(named, flow_runs.c.scheduled_for.is_not(None))


def _accepted(op: Op, at: datetime) -> ColumnElement[bool]:
    """By the time itself, and by the ids that runs of that time have, which are an index."""
    compared: ColumnElement[bool] = _COMPARE[op](flow_runs.c.created_at, at)
    if op in (Op.ABOVE, Op.FROM):
        return and_(compared, flow_runs.c.id >= _first_id(at - _SKEW))
    return and_(compared, flow_runs.c.id < _first_id(at + _SKEW))


def _first_id(at: datetime) -> UUID:
    """The smallest id of that millisecond."""
    return UUID(int=min(max(int(at.timestamp() * 1000), 0), _LAST_MS) << 80)


def _error(part: str) -> ColumnElement[bool]:
    """In the type or the message, whatever the case; or by its fingerprint."""
    if is_fingerprint(part):
        return flow_runs.c.fingerprint == part
    words = func.concat_ws(": ", flow_runs.c.error.op("->>")("type"), flow_runs.c.error.op("->>")("message"))
    return and_(unhappy(), _has(words, part))


def _has(text: ColumnElement[str], part: str) -> ColumnElement[bool]:
    return func.strpos(func.lower(text), func.lower(part)) > 0


def _attribute(name: str, op: Op, value: str | Decimal | bool) -> ColumnElement[bool]:
    """A text compares with texts, by its characters, a number with numbers."""
    kept = flow_runs.c.search
    if op is Op.IS:
        written = json.dumps(value) if isinstance(value, str | bool) else str(value)
        return kept.op("@>", is_comparison=True)(cast(literal(f"{{{json.dumps(name)}: {written}}}", Text), JSONB))
    is_text = isinstance(value, str)
    shown = kept[name].astext
    comparable = shown.collate("C") if is_text else cast(shown, Numeric)
    of_kind = func.jsonb_typeof(kept[name]) == ("string" if is_text else "number")
    return and_(kept.is_not(None), case((of_kind, _COMPARE[op](comparable, value)), else_=false()))


def _word(word: str) -> ColumnElement[bool]:
    return or_(_has(flow_runs.c.flow, word), _tags([word]), _keys([word]), _error(word))


def unhappy() -> ColumnElement[bool]:
    """What is true of every run with an error: the condition of an index (`ix_flow_runs_unhappy`)."""
    return or_(type_coerce(flow_runs.c.halt, Text).is_not(None), flow_runs.c.failures > 0)


def _status(status: RunStatus) -> ColumnElement[bool]:
    if status is RunStatus.WAITING:
        return and_(parked(), flow_runs.c.ended_at.is_(None))
    stored: ColumnElement[bool] = STATUS.in_([status.value])
    if status is RunStatus.RUNNING:
        return and_(stored, flow_runs.c.ended_at.is_(None), not_(parked()))
    if status is RunStatus.PENDING:
        return and_(stored, flow_runs.c.ended_at.is_(None))
    return stored if status is RunStatus.SUCCEEDED else and_(stored, unhappy())


_COMPARE: Final[Mapping[Op, Callable[[Any, Any], Any]]] = {
    Op.IS: operator.eq,
    Op.BELOW: operator.lt,
    Op.UP_TO: operator.le,
    Op.ABOVE: operator.gt,
    Op.FROM: operator.ge,
}
_TOGETHER: Final[Mapping[Field, Callable[[list[Any]], ColumnElement[bool]]]] = {
    Field.FLOW: _flow,
    Field.TAG: _tags,
    Field.KEY: _keys,
}
_EACH: Final[Mapping[Field, Callable[[Any], ColumnElement[bool]]]] = {
    Field.STATUS: _status,
    Field.SCHEDULE: _schedule,
    Field.ERROR: _error,
    Field.WORD: _word,
}
