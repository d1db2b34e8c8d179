"""A transaction of the caller's own: what we write in it exists if and only if the caller commits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from sqlalchemy import Connection, Engine, StaticPool, make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGExecutionContext_psycopg
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import UsageError
from orchestrator.ledger.rows import one
from orchestrator.ledger.tx import Ledger

Borrowed = Connection | psycopg.Connection[Any]
"""What a caller may hand over."""


@contextmanager
def borrowed(ledger: Ledger, given: Borrowed) -> Iterator[Connection]:
    """`given` as the engine takes it, in a savepoint: an error leaves the caller's transaction as it was.

    Raises:
        UsageError: it commits by itself, its transaction has failed, or it is connected to another database.
    """
    if isinstance(given, psycopg.Connection):
        try:
            with _engine(given).connect() as tx, _savepoint(ledger, tx):
                yield tx
        except DBAPIError as exc:
            raise exc.orig or exc from exc  # as from the caller's own statements
    elif isinstance(given, Connection):
        with _savepoint(ledger, given):
            yield given
    else:
        raise UsageError(
            f"`connection` is of type {type(given).__name__}. Fix: give a Connection of SQLAlchemy (of a Session: "
            "`session.connection()`) or of psycopg 3."
        )


@contextmanager
def _savepoint(ledger: Ledger, tx: Connection) -> Iterator[None]:
    driver = tx.connection.driver_connection
    if not isinstance(driver, psycopg.Connection | psycopg.AsyncConnection):
        raise UsageError(
            f"`connection` is one of {type(driver).__module__.partition('.')[0]}. Fix: use psycopg 3, as in "
            "`create_engine('postgresql+psycopg://…')`."
        )
    status = driver.pgconn.transaction_status
    if driver.autocommit and status == TransactionStatus.IDLE:
        raise UsageError("`connection` commits each statement by itself. Fix: begin a transaction on it first.")
    if status == TransactionStatus.INERROR:
        raise UsageError("The transaction of `connection` has failed. Fix: roll it back, and begin again.")
    _check_database(ledger, tx)
    with tx.begin_nested():
        yield


def _check_database(ledger: Ledger, tx: Connection) -> None:
    theirs = one(tx, "identity")
    with ledger.auto() as mine:
        ours = one(mine, "identity")
    if theirs != ours:
        raise UsageError(
            "`connection` is connected to another database than this client, or does not find the tables of the ledger "
            "on its search_path. Fix: connect to the database that ORCHESTRATOR_DATABASE_URL names."
        )


class _Context(PGExecutionContext_psycopg):
    def create_default_cursor(self) -> Any:
        return self._dbapi_connection.cursor(row_factory=tuple_row)


class _Dialect(PGDialect_psycopg):
    """Ends nothing: the transaction and the connection are somebody else's."""

    supports_statement_cache = True
    execution_ctx_cls = _Context

    def do_rollback(self, dbapi_connection: Any) -> None: ...

    def do_commit(self, dbapi_connection: Any) -> None: ...

    def do_close(self, dbapi_connection: Any) -> None: ...


def _engine(given: "psycopg.Connection[Any]") -> Engine:
    dialect = _Dialect(dbapi=psycopg)  # type: ignore[no-untyped-call]
    pool = StaticPool(lambda: given, reset_on_return=None, dialect=dialect)  # type: ignore[arg-type]
    return Engine(pool, dialect, make_url("postgresql+psycopg://"))
