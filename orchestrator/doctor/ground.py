"""What the checks look at."""

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg
import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError as BrokerError

from orchestrator.embedded.discovery import find_running
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings, mask_url, variable

TIMEOUT_S: Final = 5


class Ground:
    """Connections to both servers. `database` and `broker` are None where there is none; then `…_problem` says why."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database: psycopg.Connection[tuple[Any, ...]] | None = None
        self.database_problem = f"{variable('database_url')} is not set"
        self.broker: Any = None
        self.broker_problem = f"{variable('broker_url')} is not set"
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
            self.database = psycopg.connect(self.database_url, autocommit=True, connect_timeout=TIMEOUT_S)
        except psycopg.Error as exc:
            reason = str(exc).strip().split("\n")[0]
            self.database_problem = f"{mask_url(self.database_url)} does not answer: {reason}"
            return
        self.ledger = Ledger.connect(self.settings.require_database_url(), pool_size=1, name="orchestrator doctor")

    _broker_connection: Any = None

    def _open_broker(self) -> None:
        if self.settings.broker_url is None:
            return
        url = self.settings.require_broker_url()
        options = {
            "socket_connect_timeout": TIMEOUT_S,
            "socket_timeout": TIMEOUT_S,
            **self.settings.broker_transport_options,
        }
        connection: Any = Connection(  # type: ignore[no-untyped-call]
            url, ssl=self.settings.broker_use_ssl, transport_options=options
        )
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=TIMEOUT_S)
            client = connection.channel().client
            client.ping()
        except (BrokerError, redis.RedisError, OSError) as exc:
            connection.release()
            self.broker_problem = f"{mask_url(url)} does not answer: {exc}"
            return
        self._broker_connection, self.broker = connection, client
