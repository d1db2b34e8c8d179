"""Connections and transactions of one process. Every statement of the product runs through a `Ledger`."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from time import monotonic
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import WeakSet

import psycopg
from psycopg import errors as pg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError, SQLAlchemyError

from orchestrator import forks
from orchestrator.core.loops import LOOP_LIMIT
from orchestrator.core.manifest import Manifest
from orchestrator.core.plan import Plan
from orchestrator.core.reach import PLAIN, Pooler, Reach
from orchestrator.core.secrets import NAMES
from orchestrator.core.taint import FlowSecrets, secret_names
from orchestrator.ledger import ends, session
from orchestrator.ledger.rows import ESSENTIAL, SLOW, Watch
from orchestrator.ledger.session import Sessions
from orchestrator.ledger.value_cache import ValueCache
from orchestrator.payloads import Payloads

T = TypeVar("T")
ATTEMPTS: Final = 5
"""How often a transaction that lost a deadlock is run before the error is passed on."""
_IN_TRANSACTION: Final = "READ COMMITTED"
"""The isolation of a connection that does not commit each statement by itself."""


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
    if (sqlstate(exc) or "").startswith("08"):
        return True  # what a pooler ends a connection with that has no session for it, restarts or lost its server
    if isinstance(exc.orig, psycopg.InternalError) and exc.orig.sqlstate is None:
        return True  # a surplus answer: a pooler passed on why PostgreSQL had ended the session
    return isinstance(exc, OperationalError | InterfaceError) and getattr(exc.orig, "sqlstate", None) is None


def sqlstate(exc: BaseException) -> str | None:
    """PostgreSQL's code of what ended the statement; None for what the server did not say."""
    code: str | None = getattr(getattr(exc, "orig", None), "sqlstate", None)
    return code


def is_broken(connection: Connection) -> bool:
    """Whether this connection went away. Asked where other people's code ran on it: an exception from there may be of
    another database, whatever its class."""
    if connection.closed:  # by the handler itself
        return False
    if connection.invalidated:
        return True
    driver = connection.connection.driver_connection
    return driver is None or bool(driver.closed)


def refusal(exc: BaseException) -> str | None:
    """The reason given to `flow_refuse`, when that ended the statement; else None."""
    orig: Any = getattr(exc, "orig", exc)
    return orig.diag.message_primary if getattr(orig, "sqlstate", None) == "FLOW1" and orig is not None else None


def normal_url(url: str) -> URL:
    """`postgres://` and `postgresql://` name psycopg 3, the one driver in use."""
    parsed = make_url(url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername in {"postgres", "postgresql"} else parsed


class Ledger:
    """The ledger as one process sees it.

    Connections are made on first use and belong to the process that made them: a forked child starts with none.
    """

    def __init__(
        self,
        url: URL,
        *,
        pool_size: int,
        statement_timeout: timedelta,
        name: str,
        essential: bool,
        reach: Reach = PLAIN,
    ) -> None:
        self._url = url
        self._pool_size = pool_size
        self._overflow = reach.overflow
        self.essential = essential
        """Whether it keeps no events that can be derived."""
        limit_ms = int(statement_timeout.total_seconds() * 1000)
        self.idle_limit = f"{limit_ms}ms"
        """How long a transaction may do nothing: a process that sleeps in one holds locks that others wait for."""
        self._options: dict[str, Any] = {
            **session.driver_options(reach.pooler),
            "application_name": name[:60],
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        }
        shared = reach.pooler is Pooler.TRANSACTION
        self._sessions = Sessions(session.limits(reach.role_limit if shared else statement_timeout), reach.pooler)
        self._own_limit = self.idle_limit if shared and statement_timeout != reach.role_limit else None
        """What each transaction has to set for itself, where the role brings another limit."""
        self._lock = threading.Lock()
        self._local = threading.local()
        self._of_threads: WeakSet[Connection] = WeakSet()
        self._engine: Engine | None = None
        forks.watch(self)
        self._plans: dict[str, Plan] = {}
        self._secrets: dict[str, FlowSecrets] = {}
        self.secret_names = NAMES
        """Fields that are secret by their names, in every flow."""
        self.payloads = Payloads()
        """Where long outputs are."""
        self.trace_split: timedelta | None = None
        """After a wait so long a run goes on in another trace; None: whoever works here makes no spans."""
        self.loop_limit = LOOP_LIMIT
        """Items that one loop may have."""
        self.values = ValueCache()
        self.current: dict[str, str] = {}
        """Flow to manifest hash as this process saw it last; the start statement checks it."""
        self.ended: Callable[[Sequence[UUID]], None] | None = None
        """Told which runs ended, after each commit in which any did. Must not raise."""
        self.slow: Watch | None = None
        """Told of slow statements; set before the first connection."""
        self.jitter: Callable[[], float] = random.random
        """Which part of its longest pause a back-off takes, from 0 to 1. A played clock takes it whole."""

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        pool_size: int = 5,
        statement_timeout: timedelta = timedelta(seconds=5),
        name: str = "orchestrator",
        essential: bool = False,
        reach: Reach = PLAIN,
    ) -> "Ledger":
        """A ledger over `url`; nothing is opened yet. `essential`: it keeps no events that can be derived."""
        return cls(
            normal_url(url),
            pool_size=pool_size,
            statement_timeout=statement_timeout,
            name=name,
            essential=essential,
            reach=reach,
        )

    @property
    def engine(self) -> Engine:
        """This process's engine."""
        forks.notice()
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._create()
        return self._engine

    def _create(self) -> Engine:
        made = create_engine(
            self._url,
            isolation_level="AUTOCOMMIT",  # most is one statement: whoever wants a transaction says so
            pool_size=self._pool_size,
            max_overflow=self._overflow,
            pool_pre_ping=False,
            pool_recycle=1800,
            hide_parameters=True,  # whatever is written may be a secret, and errors are logged
            use_native_hstore=False,  # else each engine asks for the type, three statements
            connect_args=self._options,
            execution_options={SLOW: self.slow} | ({ESSENTIAL: True} if self.essential else {}),
        )
        self._sessions.used_by(made)
        event.listen(made, "checkin", _returned)
        event.listen(made, "checkout", _taken)
        if self._own_limit is not None:
            event.listen(made, "begin", self._limit)
        return made

    def _limit(self, connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") == _IN_TRANSACTION:
            connection.exec_driver_sql(
                "SELECT set_config('statement_timeout', %(limit)s, TRUE),"
                " set_config('idle_in_transaction_session_timeout', %(limit)s, TRUE)",
                {"limit": self._own_limit},
            )

    def prove(self) -> None:
        """Open a connection, and believe nothing of what stands in front of PostgreSQL. For the start of a process.

        Raises:
            PoolerUnfit: a pooler was not declared, or is not what was declared; or the role has other settings.
        """
        self._sessions.doubt()
        try:
            with self.auto() as tx:
                tx.exec_driver_sql("SELECT 1")
        finally:
            self.release_thread()

    @property
    def connections(self) -> tuple[int, int]:
        """How many of this process are in use, and how many are open."""
        pool: Any = None if self._engine is None else self._engine.pool
        return (0, 0) if pool is None else (pool.checkedout(), pool.checkedin() + pool.checkedout())

    def after_fork(self) -> None:
        """See `forks.Forked`: the sockets are the parent's."""
        forks.inherited(self._engine, self._local, list(self._of_threads))
        self._lock = threading.Lock()
        self._local = threading.local()
        self._of_threads = WeakSet()
        self._engine = None
        self.values = ValueCache()
        self._sessions.after_fork()

    def opened(self) -> Connection:
        """A connection that begins a transaction with its first statement, for the caller to close."""
        return self.engine.connect().execution_options(isolation_level=_IN_TRANSACTION)

    @contextmanager
    def tx(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an exception."""
        with self.opened() as connection:
            noted = ends.begin(connection)
            with connection.begin():
                yield connection
        self._announce(noted)

    def _announce(self, ended: Sequence[UUID]) -> None:
        if ended and self.ended is not None:
            self.ended(ended)

    @contextmanager
    def patient_tx(self, name: str) -> Iterator[Connection]:
        """A transaction for code that is not ours and may think for long between two statements.

        `hurry` ends the patience, before locks are taken that others wait for. A keeper ends it by its `name`. What
        ended the block is passed on, whatever the roll-back meets.
        """
        ended: BaseException | None = None
        try:
            with self.tx() as connection:
                connection.exec_driver_sql(
                    "SELECT set_config('idle_in_transaction_session_timeout', '0', TRUE),"
                    " set_config('application_name', %(name)s, TRUE)",
                    {"name": name},
                )
                try:
                    yield connection
                except BaseException as exc:
                    ended = exc
                    raise
        except SQLAlchemyError:
            if ended is None:
                raise
            raise ended from ended.__cause__

    def hurry(self, connection: Connection) -> None:
        """From here on the transaction may not sleep."""
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{self.idle_limit}'")

    def retry(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; again, from the start, when it lost a deadlock.

        `work` may run several times, so it must do nothing but SQL.
        """
        return self._again(self.tx, work)

    def once(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, a single statement, as its own commit and one round trip; again, when it lost a deadlock."""
        return self._again(self.auto, work)

    @staticmethod
    def _again(open_: Callable[[], AbstractContextManager[Connection]], work: Callable[[Connection], T]) -> T:
        for remaining in reversed(range(ATTEMPTS)):
            try:
                with open_() as connection:
                    return work(connection)
            except OperationalError as exc:
                if not remaining or not isinstance(exc.orig, pg.DeadlockDetected | pg.SerializationFailure):
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def auto(self) -> Iterator[Connection]:
        """This thread's own connection: each statement is one commit and one round trip. Where a transaction has to set
        its own limit, all of them are one commit."""
        if self._own_limit is not None:
            with self.tx() as connection:
                yield connection
            return
        connection = self._of_thread()
        noted = ends.begin(connection)
        try:
            yield connection
        except BaseException:
            if not _at_rest(connection):  # whatever it was: a refusal of ours leaves the connection as it was
                self._drop(connection)
            raise
        finally:
            self._local.used = monotonic()
        self._announce(noted)

    def _of_thread(self) -> Connection:
        engine = self.engine
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None and not connection.closed and connection.engine.pool is engine.pool:
            if monotonic() - self._local.used < session.IDLE_S or session.quiet(_driver(connection)):
                return connection
            self._drop(connection)
        connection = engine.connect()
        self._local.connection, self._local.used = connection, monotonic()
        self._of_threads.add(connection)
        return connection

    def _drop(self, connection: Connection) -> None:
        self._local.connection = None
        self._of_threads.discard(connection)
        connection.invalidate()
        connection.close()

    def release_thread(self) -> None:
        """Give this thread's connection back; call when the thread ends. Never raises for one that is lost."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            self._of_threads.discard(connection)
            _give_back(connection)

    def plan(self, manifest_hash: str, tx: Connection | None = None) -> Plan:
        """The compiled graph of a pinned manifest, read over this connection if it has to be. Cached for ever: a hash
        never changes its meaning."""
        found = self._plans.get(manifest_hash)
        if found is None:
            found = self._plans[manifest_hash] = Plan.of(self._load(manifest_hash, tx))
        return found

    def secrets(self, manifest_hash: str) -> FlowSecrets:
        """What must not be shown of the runs of a version. Cached as its plan is."""
        found = self._secrets.get(manifest_hash)
        if found is None:
            found = self._secrets[manifest_hash] = FlowSecrets(self.plan(manifest_hash).manifest, self.secret_names)
        return found

    def names_of(self, manifest: Manifest) -> frozenset[str]:
        """Fields that are secret by their names in a flow."""
        return secret_names(manifest, self.secret_names)

    def know(self, manifest: Manifest) -> None:
        """Plan with a manifest that is at hand: it need not be read."""
        self._plans.setdefault(manifest.hash, Plan.of(manifest))

    def manifest(self, manifest_hash: str) -> Manifest:
        """The manifest of that hash."""
        return self.plan(manifest_hash).manifest

    def _load(self, manifest_hash: str, tx: Connection | None) -> Manifest:
        from orchestrator.ledger import definitions

        if tx is not None:
            return definitions.load(tx, manifest_hash)
        with self.auto() as tx:  # a roll-back at its end would make the driver forget every prepared statement
            return definitions.load(tx, manifest_hash)

    def close(self) -> None:
        """Close every connection of this process, also those of threads that ended without giving theirs back."""
        if self._engine is not None:
            for connection in list(self._of_threads):
                _give_back(connection)
            self._local = threading.local()
            self._engine.dispose()
            self._engine = None


def _give_back(connection: Connection) -> None:
    with suppress(SQLAlchemyError):  # it is lost, and needs no roll-back; the pool has noticed
        connection.close()


def _driver(connection: Connection) -> "psycopg.Connection[Any]":
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _at_rest(connection: Connection) -> bool:
    return not connection.closed and not connection.invalidated and session.at_rest(_driver(connection))


def _returned(driver: "psycopg.Connection[Any] | None", record: Any) -> None:
    record.info["used"] = monotonic()


def _taken(driver: "psycopg.Connection[Any]", record: Any, proxy: Any) -> None:
    """A connection that was ended while it was idle is replaced before anything is sent that may not be repeated."""
    if monotonic() - record.info.get("used", monotonic()) > session.IDLE_S and not session.quiet(driver):
        raise DisconnectionError("ended while it was idle")
