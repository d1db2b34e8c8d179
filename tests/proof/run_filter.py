"""What a filter of runs means, run by run: the reference that the ledger's SQL is held against."""

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
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


def meant(wanted: RunFilter, row: RunRow) -> bool:
    """Whether every term holds for the run."""
    return all(any(_is(term, row, value) for value in term.values) != term.negated for term in wanted.terms)


def _is(term: Term, row: RunRow, value: str | datetime) -> bool:
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
            return _in(value, _error(row))
        case Field.CREATED:
            return COMPARE[term.op](row.created_at, value)
        case Field.WORD:
            return _in(value, row.flow) or value in row.tags or key == value or _in(value, _error(row))


def _error(row: RunRow) -> str:
    return "" if row.error is None else f"{row.error['type']}: {row.error['message']}"


def _in(part: object, text: str) -> bool:
    return str(part).lower() in text.lower()
