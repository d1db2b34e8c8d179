"""What a session with PostgreSQL must be: it has our limits, and it stays the same backend until we close it.

The limits are set by a statement and not as start-up options, because a pooler refuses those, or drops them without a
word. Behind a pooler they are asked back in a second transaction; and once in each process, while a second connection
holds a transaction open, because a pooler that shares backends is only seen when somebody competes for them.
"""

import selectors
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import Engine, event

from orchestrator.errors import PoolerUnfit

Connect = Callable[[], "psycopg.Connection[Any]"]
PATIENCE_S: Final = 10.0
"""How long a new connection may wait for a session: a pooler accepts more connections than it has sessions."""
IDLE_S: Final = 1.0
"""A connection that did nothing for this long is checked before it is used."""
_POOLER: Final = (
    "use a pooler that keeps one session for each connection (PgBouncer: `pool_mode = session` for this database, and "
    "`server_reset_query = DISCARD ALL`), or connect to PostgreSQL directly."
)


class Sessions:
    """Opens sessions with these settings in force. `settings` are names and values that PostgreSQL knows."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._set = "SELECT " + ", ".join(
            [f"set_config('{name}', '{value}', FALSE)" for name, value in settings.items()] + ["pg_backend_pid()"]
        )
        self._ask = "SELECT " + ", ".join([f"current_setting('{name}')" for name in settings] + ["pg_backend_pid()"])
        self._proven = False
        self._proving = threading.Lock()

    def after_fork(self) -> None:
        """See `forks.Forked`."""
        self._proving = threading.Lock()

    def used_by(self, engine: Engine) -> None:
        """From now on the engine opens its connections here."""

        def do_connect(dialect: Any, record: Any, args: Any, options: Any) -> "psycopg.Connection[Any]":
            return self.open(lambda: dialect.connect(*args, **options))

        event.listen(engine, "do_connect", do_connect)

    def open(self, connect: Connect) -> "psycopg.Connection[Any]":
        """A new connection with the settings in force.

        Raises:
            PoolerUnfit: a pooler changes the session between transactions.
            psycopg.Error: the server cannot be reached, or has no free session.
        """
        connection = connect()
        try:
            said = ask(connection, self._set)
            if said[-1] != str(connection.info.backend_pid):  # a pooler answered the log-in in PostgreSQL's place
                self._check(connection, connect, said)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: "psycopg.Connection[Any]", connect: Connect, said: list[str]) -> None:
        with self._proving:
            if not self._proven:
                self._compete(connection, connect, said)
                self._proven = True
                return
        if ask(connection, self._ask) != said:
            raise _unfit()

    def _compete(self, connection: "psycopg.Connection[Any]", connect: Connect, said: list[str]) -> None:
        """Ask again while another connection is in a transaction: a shared backend is that one's now."""
        with connect() as other:
            try:
                ask(other, "BEGIN")
                taken = ask(other, "SELECT pg_backend_pid()")
            except pg.ProtocolViolation as exc:  # statement mode allows no transactions
                raise _unfit() from exc
            if taken[0] == said[-1] or ask(connection, self._ask) != said:
                raise _unfit()
            ask(other, "ROLLBACK")


def _unfit() -> PoolerUnfit:
    return PoolerUnfit(
        "The pooler in front of PostgreSQL gives a connection another session in each transaction, so that time limits "
        f"and prepared statements are somebody else's. Fix: {_POOLER}",
        fix=_POOLER,
        refused=True,
    )


def ask(connection: "psycopg.Connection[Any]", statement: str) -> list[str]:
    """The first row of a statement, as strings; no transaction is begun. It must be answered within `PATIENCE_S`."""
    driver = connection.pgconn
    driver.send_query(statement.encode())
    driver.flush()
    until = monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        selector.register(driver.socket, selectors.EVENT_READ)
        while True:
            if driver.is_busy() and not selector.select(max(until - monotonic(), 0)):
                raise psycopg.OperationalError(f"no session was free within {PATIENCE_S:g} s: the pooler has too few")
            driver.consume_input()
            if not driver.is_busy():
                break
    row: list[str] = []
    while (result := driver.get_result()) is not None:
        if result.status == ExecStatus.FATAL_ERROR:
            raise pg.error_from_result(result, encoding="utf-8")
        if result.ntuples:
            row = [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]
    return row


def at_rest(connection: "psycopg.Connection[Any]") -> bool:
    """Whether it is alive, as far as we know, and neither in a transaction nor in the middle of a statement."""
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


def quiet(connection: "psycopg.Connection[Any]") -> bool:
    """Whether nothing came in since its last statement. To an idle connection a server says little but that it ended
    it; a network that ended it says so, too."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.pgconn.socket, selectors.EVENT_READ)
        return not selector.select(0)
