"""Run a named statement; turn rows into facts."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Final, NamedTuple, cast

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, CursorResult, Row
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Dispatch
from orchestrator.ledger.statements import sql

_CURSOR: Final = "hot cursor"
ESSENTIAL: Final = "essential events"
"""The option of a connection that keeps no events that can be derived."""
SLOW: Final = "slow statements"
"""The option of a connection whose ledger wants to know of them: a `Watch`."""
_encoded: Final = lru_cache(maxsize=64)(str.encode)
"""Statements by their bytes: the driver looks them up so, and would encode the text each time."""


class Watch(NamedTuple):
    """`told` hears the name of each statement that took longer than `limit_s`, and how long that was. Called inside the
    transaction, so it must be quick, and must not raise."""

    limit_s: float
    told: Callable[[str, float], None]

    def over(self, name: str, began: float) -> None:
        """The statement that began then is done, well or not."""
        took_s = monotonic() - began
        if took_s > self.limit_s:
            self.told(name, took_s)


def text_of(tx: Connection, name: str) -> str:
    """The statement as this connection's ledger wants it."""
    return sql(name, essential=True) if ESSENTIAL in tx.get_execution_options() else sql(name)


def run(tx: Connection, name: str, /, **parameters: Any) -> CursorResult[Any]:
    """The result of the statement `name`."""
    watch, began = tx.get_execution_options().get(SLOW), monotonic()
    try:
        return tx.exec_driver_sql(text_of(tx, name), parameters)
    finally:
        if watch is not None:
            watch.over(name, began)


def one(tx: Connection, name: str, /, **parameters: Any) -> Row[Any] | None:
    """Its first row; None is an answer, not an error."""
    return run(tx, name, **parameters).first()


def hot(tx: Connection, name: str, /, **parameters: Any) -> list[Any]:
    """The rows of a statement of the hot path, as named tuples, by the driver's own cursor on the same connection.

    SQLAlchemy's result costs 0.06 ms of CPU for a dozen columns, a fifth of what a step costs its worker, and a new
    cursor 0.02. Errors are wrapped as SQLAlchemy would.
    """
    proxied = tx.connection
    driver = proxied.driver_connection
    if not isinstance(driver, psycopg.Connection):  # a caller's own, for asyncio
        return list(run(tx, name, **parameters))
    cursor = proxied.info.get(_CURSOR)
    if cursor is None or cursor.connection is not driver:
        cursor = proxied.info[_CURSOR] = driver.cursor(row_factory=namedtuple_row)
    statement = text_of(tx, name)
    watch, began = tx.get_execution_options().get(SLOW), monotonic()
    try:
        return cast(list[Any], cursor.execute(_encoded(statement), parameters).fetchall())
    except psycopg.Error as exc:
        if driver.closed:
            tx.invalidate(exc)
        raise DBAPIError.instance(
            statement, None, exc, psycopg.Error, hide_parameters=True, connection_invalidated=driver.closed
        ) from exc
    finally:
        if watch is not None:
            watch.over(name, began)


def under(owner: str) -> str:
    """The LIKE pattern of the owners that belong to a worker process: its pool children and threads."""
    escaped = owner.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}/%"


def dispatches(rows: Sequence[Any]) -> tuple[Dispatch, ...]:
    """Rows of (run id, step key, number, task, queue, priority)."""
    return tuple(Dispatch(*tuple(row)) for row in rows)
