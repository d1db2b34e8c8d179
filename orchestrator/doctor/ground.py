"""What the checks look at."""

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from orchestrator.core.reach import Pooler
from orchestrator.errors import PoolerUnfit, SettingsInvalid, Unavailable
from orchestrator.ledger.session import Sessions, driver_options, limits
from orchestrator.ledger.tx import Ledger
from orchestrator.servers import broker
from orchestrator.servers.diagnosis import database_fix, one_line
from orchestrator.servers.embedded.discovery import find_running
from orchestrator.settings import Settings, variable
from orchestrator.settings.urls import mask_url

TIMEOUT_S: Final = 5
_PROBE: Final = {"default_transaction_isolation": "read committed"}
"""A limit that must hold in a later transaction too."""


class Ground:
    """Connections to both servers. `database` and `broker` are None where there is none; then `…_problem` says why,
    and `…_fix` what to do."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reach = settings.reach()
        self.database: psycopg.Connection[tuple[Any, ...]] | None = None
        self.database_problem = f"{variable('database_url')} is not set"
        self.database_fix = f"start PostgreSQL and set {variable('database_url')}, or run `orchestrator dev`."
        self.broker: Any = None
        self._broker_connection: Any = None
        self.broker_problem = f"{variable('broker_url')} is not set"
        self.broker_fix = f"start Redis or Valkey and set {variable('broker_url')}, or run `orchestrator dev`."
        self.ledger: Ledger | None = None
        self.is_migrated = False
        """Set by the check of the migrations: whether the tables can be asked."""

    def __enter__(self) -> Self:
        self._open_database()
        self._open_broker()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.database is not None:
            self.database.close()
        if self.ledger is not None:
            self.ledger.close()
        if self._broker_connection is not None:
            self._broker_connection.release()

    @property
    def database_url(self) -> str:
        """As psycopg wants it."""
        return self.settings.require_database_url().replace("postgresql+psycopg://", "postgresql://", 1)

    @property
    def is_dev(self) -> bool:
        """Whether these are the servers of the `orchestrator dev` that runs in this project."""
        running = find_running(Path.cwd())
        return running is not None and running.database_url.rpartition("@")[2] == self.database_url.rpartition("@")[2]

    def _open_database(self) -> None:
        if self.settings.database_url is None:
            return
        try:
            self.database = self._sessions().open(
                lambda: psycopg.connect(
                    self.database_url, autocommit=True, connect_timeout=TIMEOUT_S, **driver_options(self.reach.pooler)
                )
            )
        except PoolerUnfit as exc:
            self.database_problem, _, self.database_fix = exc.message.partition(" Fix: ")
            return
        except psycopg.Error as exc:
            reason = one_line(exc)
            self.database_problem = f"{mask_url(self.database_url)} does not answer: {reason}"
            self.database_fix = database_fix(reason)
            return
        self.ledger = Ledger.connect(
            self.settings.require_database_url(),
            reach=self.reach,
            pool_size=1,
            statement_timeout=self.settings.statement_timeout,
            name="orchestrator doctor",
        )

    def _sessions(self) -> Sessions:
        pooled = self.reach.pooler is Pooler.TRANSACTION
        made = Sessions(limits(self.reach.role_limit) if pooled else _PROBE, self.reach.pooler)
        made.doubt()
        return made

    def _open_broker(self) -> None:
        if self.settings.broker_url is None:
            return
        try:
            connection = broker.connect(self.settings)
        except (SettingsInvalid, Unavailable) as exc:
            self.broker_problem, _, self.broker_fix = exc.message.partition(" Fix: ")
            return
        self._broker_connection, self.broker = connection, connection.default_channel.client
