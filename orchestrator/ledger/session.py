"""What a session with PostgreSQL must be: it has our limits, through whatever pooler it comes.

The limits are set by a statement and not as start-up options, because a pooler refuses those, or drops them without a
word. A pooler in session mode keeps them: they are asked back in a second transaction; and once in each process, while
a second connection holds a transaction open, because a pooler that shares sessions is only seen when somebody competes
for them. In transaction mode nothing that is set lasts: the role brings the limits, and here they are compared.

Whether there is a pooler shows in the number of the session: it answers the log-in with one of its own.
"""

import json
import selectors
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import Engine, event

from orchestrator.core.reach import Pooler
from orchestrator.ledger import unfit

Connect = Callable[[], "psycopg.Connection[Any]"]
PATIENCE_S: Final = 10.0
"""How long a new connection may wait for a session: a pooler accepts more connections than it has sessions."""
IDLE_S: Final = 1.0
"""A connection that did nothing for this long is checked before it is used."""


def limits(statement_timeout: timedelta) -> dict[str, str]:
    """What must hold in each session of ours: names, and values in PostgreSQL's own units."""
    limit_ms = str(round(statement_timeout.total_seconds() * 1000))
    return {
        "statement_timeout": limit_ms,
        "idle_in_transaction_session_timeout": limit_ms,
        "lock_timeout": "0",  # a lock is waited for as long as a statement may take
        "timezone": "UTC",
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
        "default_transaction_isolation": "read committed",  # what every statement is written for
    }


def driver_options(pooler: Pooler) -> dict[str, Any]:
    """What psycopg must know: a prepared statement stays behind in a session that is somebody else's next time."""
    return {"prepare_threshold": None} if pooler is Pooler.TRANSACTION else {}


class Sessions:
    """Opens sessions with these settings in force. `settings` are names and values that PostgreSQL knows; behind a
    pooler in transaction mode the role must bring them."""

    def __init__(self, settings: Mapping[str, str], pooler: Pooler = Pooler.NONE) -> None:
        self._settings = dict(settings)
        self._pooler = pooler
        self._set = "SELECT " + ", ".join(
            [f"set_config('{name}', '{value}', FALSE)" for name, value in settings.items()] + ["pg_backend_pid()"]
        )
        self._ask = "SELECT " + ", ".join([f"current_setting('{name}')" for name in settings] + ["pg_backend_pid()"])
        self._to_prove = pooler is not Pooler.NONE
        self._proving = threading.Lock()

    def after_fork(self) -> None:
        """See `forks.Forked`."""
        self._proving = threading.Lock()

    def doubt(self) -> None:
        """The next connection competes with another one, even if it looks like a session of PostgreSQL's own."""
        self._to_prove = True

    def used_by(self, engine: Engine) -> None:
        """From now on the engine opens its connections here."""

        def do_connect(dialect: Any, record: Any, args: Any, options: Any) -> "psycopg.Connection[Any]":
            return self.open(lambda: dialect.connect(*args, **options))

        event.listen(engine, "do_connect", do_connect)

    def open(self, connect: Connect) -> "psycopg.Connection[Any]":
        """A new connection with the settings in force.

        Raises:
            PoolerUnfit: a pooler was not declared, or is not what was declared; or the role has other settings.
            psycopg.Error: the server cannot be reached, or has no free session.
        """
        connection = connect()
        try:
            if self._pooler is Pooler.TRANSACTION:
                self._compare(connection)
            else:
                self._set_up(connection, connect)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: "psycopg.Connection[Any]", connect: Connect) -> None:
        said = ask(connection, self._set)
        pooled = said[-1] != str(connection.info.backend_pid)
        if pooled and self._pooler is Pooler.NONE:
            raise unfit.undeclared(connection, keeps_session=not self._shared(connection, connect, said))
        with self._proving:
            if self._to_prove:
                if self._shared(connection, connect, said):
                    raise unfit.shared(connection, self._pooler)
                self._to_prove = False
                return
        if pooled and (ask(connection, self._ask) != said or _has_prepared(connection)):
            raise unfit.shared(connection, self._pooler)

    def _shared(self, connection: "psycopg.Connection[Any]", connect: Connect, said: list[str]) -> bool:
        """Ask again while another connection is in a transaction: a shared session is that one's now."""
        with connect() as other:
            _begin(other)
            taken = ask(other, "SELECT pg_backend_pid()")
            shared = taken[0] == said[-1] or ask(connection, self._ask) != said
            ask(other, "ROLLBACK")
        return shared or _has_prepared(connection)

    def _compare(self, connection: "psycopg.Connection[Any]") -> None:
        """Each new connection looks at the session that it gets first; that of the process, whether there are
        transactions at all."""
        if self._settings:
            names = ", ".join(f"'{name}'" for name in self._settings)
            [role, found] = ask(
                connection,
                "SELECT current_user, json_object_agg(lower(name), setting) FROM pg_settings "
                f"WHERE lower(name) IN ({names})",
            )
            there = json.loads(found)
            if wrong := {name: there.get(name) for name, value in self._settings.items() if there.get(name) != value}:
                raise unfit.role_settings(connection, role, wrong, self._settings)
        if self._to_prove:
            _begin(connection)
            ask(connection, "ROLLBACK")
            self._to_prove = False


def _begin(connection: "psycopg.Connection[Any]") -> None:
    try:
        ask(connection, "BEGIN")
    except pg.ProtocolViolation as exc:
        raise unfit.no_transactions(connection) from exc


def _has_prepared(connection: "psycopg.Connection[Any]") -> bool:
    """Whether a session that should be new has statements of somebody else, with the names that ours will have."""
    return ask(connection, "SELECT count(*) FROM pg_prepared_statements") != ["0"]


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


def is_pooled(connection: "psycopg.Connection[Any]") -> bool:
    """Whether somebody else than PostgreSQL answered the log-in."""
    return ask(connection, "SELECT pg_backend_pid()") != [str(connection.info.backend_pid)]


def at_rest(connection: "psycopg.Connection[Any]") -> bool:
    """Whether it is alive, as far as we know, and neither in a transaction nor in the middle of a statement."""
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


def quiet(connection: "psycopg.Connection[Any]") -> bool:
    """Whether nothing came in since its last statement. To an idle connection a server says little but that it ended
    it; a network that ended it says so, too."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.pgconn.socket, selectors.EVENT_READ)
        return not selector.select(0)
