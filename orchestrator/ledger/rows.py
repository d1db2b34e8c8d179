"""Run a named statement; turn rows into facts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, Row

from orchestrator.core.facts import Dispatch
from orchestrator.ledger.statements import sql


def run(tx: Connection, name: str, /, **parameters: Any) -> CursorResult[Any]:
    """The result of the statement `name`."""
    return tx.exec_driver_sql(sql(name), parameters)


def one(tx: Connection, name: str, /, **parameters: Any) -> Row[Any] | None:
    """Its first row; None is an answer, not an error."""
    return run(tx, name, **parameters).first()


def dispatches(rows: Sequence[Row[Any]]) -> tuple[Dispatch, ...]:
    """Rows of (run id, step key, number, task, queue, priority)."""
    return tuple(Dispatch(*tuple(row)) for row in rows)
