"""Connections and transactions of one process. Every statement of the product runs through a `Ledger`."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, TypeVar
from weakref import WeakSet

from psycopg import errors as pg
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from orchestrator.core.manifest import Manifest
from orchestrator.core.planner import Plan

T = TypeVar("T")
ATTEMPTS: Final = 5
"""How often a transaction that lost a deadlock is run before the error is passed on."""


def is_disconnect(exc: BaseException) -> bool:
    """True when the database went away: the outcome of the statement is unknown; re-read by key."""
    if not isinstance(exc, DBAPIError):
        return False
    lost = (
        pg.AdminShutdown,
        pg.CrashShutdown,
        pg.CannotConnectNow,
        pg.TooManyConnections,
        pg.IdleInTransactionSessionTimeout,
    )
    if isinstance(exc.orig, lost) or exc.connection_invalidated:
        return True
    return isinstance(exc, OperationalError | InterfaceError) and getattr(exc.orig, "sqlstate", None) is None


def refusal(exc: BaseException) -> str | None:
    """The reason given to `flow_refuse`, when that ended the statement; else None."""
    orig = getattr(exc, "orig", None)
    return orig.diag.message_primary if getattr(orig, "sqlstate", None) == "FLOW1" and orig is not None else None


def normal_url(url: str) -> URL:
    """`postgres://` and `postgresql://` name psycopg 3, the one driver in use."""
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername in {"postgres", "postgresql"} else parsed


class Ledger:
    """The ledger as one process sees it.

    Connections are made on first use and belong to the process that made them: after a fork the child starts
    with none, and the parent's sockets are left alone.
    """

    def __init__(self, url: URL, *, pool_size: int, statement_timeout: timedelta, name: str) -> None:
        self._url = url
        self._pool_size = pool_size
        limit_ms = int(statement_timeout.total_seconds() * 1000)
        self.idle_limit = f"{limit_ms}ms"
        """How long a transaction may do nothing: a process that sleeps in one holds locks that others wait for."""
        self._options = {
            "application_name": name[:60],
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
            "options": f"-c statement_timeout={limit_ms} -c timezone=UTC"
            f" -c idle_in_transaction_session_timeout={limit_ms} -c jit=off -c plan_cache_mode=force_generic_plan",
        }
        self._lock = threading.Lock()
        self._local = threading.local()
        self._of_threads: WeakSet[Connection] = WeakSet()
        self._engine: Engine | None = None
        self._pid = 0
        self._plans: dict[str, Plan] = {}
        self.current: dict[str, str] = {}
        """Flow to manifest hash as this process saw it last; the start statement checks it."""

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        pool_size: int = 5,
        statement_timeout: timedelta = timedelta(seconds=5),
        name: str = "orchestrator",
    ) -> "Ledger":
        """A ledger over `url`; nothing is opened yet."""
        return cls(normal_url(url), pool_size=pool_size, statement_timeout=statement_timeout, name=name)

    @property
    def engine(self) -> Engine:
        """This process's engine."""
        pid = os.getpid()
        if self._pid != pid:
            with self._lock:
                if self._pid != pid:
                    if self._engine is not None:  # forked: the sockets are the parent's
                        self._engine.dispose(close=False)
                    self._local = threading.local()
                    self._of_threads = WeakSet()
                    self._engine = self._create()
                    self._pid = pid
        assert self._engine is not None
        return self._engine

    def _create(self) -> Engine:
        return create_engine(
            self._url,
            pool_size=self._pool_size,
            max_overflow=20,
            pool_pre_ping=False,
            pool_recycle=1800,
            connect_args=self._options,
        )

    def after_fork(self) -> None:
        """Forget what the parent opened, locks included. Call in a new child before anything else."""
        self._lock = threading.Lock()
        self._pid = -1

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an exception."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def patient_tx(self, name: str) -> Iterator[Connection]:
        """A transaction for code that is not ours and may think for long between two statements.

        `hurry` ends the patience, before locks are taken that others wait for. A keeper ends it by its `name`.
        """
        with self.tx() as connection:
            connection.exec_driver_sql(
                "SELECT set_config('idle_in_transaction_session_timeout', '0', TRUE),"
                " set_config('application_name', %(name)s, TRUE)",
                {"name": name},
            )
            yield connection

    def hurry(self, connection: Connection) -> None:
        """From here on the transaction may not sleep."""
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{self.idle_limit}'")

    def retry(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; again, from the start, when it lost a deadlock.

        `work` may run several times, so it must do nothing but SQL.
        """
        for remaining in reversed(range(ATTEMPTS)):
            try:
                with self.tx() as connection:
                    return work(connection)
            except OperationalError as exc:
                if not remaining or not isinstance(exc.orig, pg.DeadlockDetected | pg.SerializationFailure):
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def auto(self) -> Iterator[Connection]:
        """This thread's own connection in AUTOCOMMIT: each statement is one commit and one round trip."""
        engine = self.engine
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.closed or connection.engine.pool is not engine.pool:
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._local.connection = connection
            self._of_threads.add(connection)
        try:
            yield connection
        except BaseException as exc:
            if not isinstance(exc, DBAPIError) or is_disconnect(exc):
                self._drop(connection)
            raise

    def _drop(self, connection: Connection) -> None:
        self._local.connection = None
        self._of_threads.discard(connection)
        connection.invalidate()
        connection.close()

    def release_thread(self) -> None:
        """Give this thread's connection back; call when the thread ends."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            self._of_threads.discard(connection)
            connection.close()

    def plan(self, manifest_hash: str) -> Plan:
        """The compiled graph of a pinned manifest. Cached for ever: a hash never changes its meaning."""
        found = self._plans.get(manifest_hash)
        if found is None:
            found = self._plans[manifest_hash] = Plan.of(self._load(manifest_hash))
        return found

    def manifest(self, manifest_hash: str) -> Manifest:
        """The manifest of that hash."""
        return self.plan(manifest_hash).manifest

    def _load(self, manifest_hash: str) -> Manifest:
        from orchestrator.ledger import definitions

        with self.engine.connect() as connection:
            return definitions.load(connection, manifest_hash)

    def close(self) -> None:
        """Close every connection of this process, also those of threads that ended without giving theirs back."""
        if self._pid == os.getpid() and self._engine is not None:
            for connection in list(self._of_threads):
                connection.close()
            self._local = threading.local()
            self._engine.dispose()
            self._engine = None
            self._pid = 0
