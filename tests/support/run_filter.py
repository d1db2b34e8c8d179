"""What a filter of runs means, run by run: the reference that the ledger's SQL is held against."""

import operator
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any

from orchestrator.core.runfilter import Field, Op, RunFilter, Term
from orchestrator.ledger.reads.rows import RunRow

COMPARE: Mapping[Op, Callable[[Any, Any], bool]] = {
    Op.IS: operator.eq,
    Op.BELOW: operator.lt,
    Op.UP_TO: operator.le,
    Op.ABOVE: operator.gt,
    Op.FROM: operator.ge,
}


def meant(wanted: RunFilter, row: RunRow, attributes: Collection[str] = ()) -> bool:
    """Whether every term holds for the run. `attributes`: what its flow declares, of its input."""

    def holds(term: Term, value: Any) -> bool:
        if term.field is Field.INPUT:
            return term.name in attributes and _compares(term.op, _at(row.body, term.name), value)
        return _is(term, row, value)

    return all(any(holds(term, value) for value in term.values) != term.negated for term in wanted.terms)


def _compares(op: Op, has: Any, value: Any) -> bool:
    """A text with texts, a bool with bools, a number with numbers."""
    if isinstance(has, bool) or isinstance(value, bool) or isinstance(has, str) or isinstance(value, str):
        return type(has) is type(value) and COMPARE[op](has, value)
    return has is not None and COMPARE[op](Decimal(str(has)), value)


def _at(body: Any, path: str) -> Any:
    for part in path.split("."):
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _is(term: Term, row: RunRow, value: Any) -> bool:
    key = row.key if row.scheduled_for is None else None
    match term.field:
        case Field.FLOW:
            return row.flow == value
        case Field.STATUS:
            return row.status == value
        case Field.TAG:
            return value in row.tags
        case Field.KEY:
            return key == value
        case Field.SCHEDULE:
            return row.scheduled_for is not None and value in (row.key, row.schedule)
        case Field.ERROR:
            return value == row.fingerprint or _in(value, _error(row))
        case Field.CREATED:
            return COMPARE[term.op](row.created_at, value)
        case Field.INPUT:
            raise AssertionError("an attribute is compared by `meant`")
        case Field.WORD:
            named = value in row.tags or value in (key, row.fingerprint)
            return named or _in(value, row.flow) or _in(value, _error(row))


def _error(row: RunRow) -> str:
    return "" if row.error is None else f"{row.error['type']}: {row.error['message']}"


def _in(part: object, text: str) -> bool:
    return str(part).lower() in text.lower()
