"""The databases of a test session: copies of one template, used again and again."""

import atexit
import os
import shutil
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from orchestrator import forks
from orchestrator.ledger import migrate
from orchestrator.ledger.schema import metadata
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.settings import Settings, variable
from orchestrator.testing import clock

VARIABLE: Final = variable("sim_database_url")
_EMPTY: Final = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
"""Where there is little to delete, this takes a millisecond, and TRUNCATE fifty."""


class Databases:
    """Of one process. The server starts with the first database, and ends with the process."""

    def __init__(self) -> None:
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._server: EmbeddedPostgres | None = None
        self._folder: Path | None = None
        self._admin_url = ""
        self._template = ""
        self._made: list[str] = []
        self._free: list[str] = []

    def after_fork(self) -> None:
        """See `forks.Forked`: the server is the parent's."""
        atexit.unregister(self.close)
        self._begin()

    def take(self) -> str:
        """The URL of a migrated database without a row, with a clock that stands still.

        Raises:
            EmbeddedMissing, EmbeddedFailed: there is no server, and none can be started.
        """
        forks.notice()
        with self._lock:
            if not self._admin_url:
                self._open()
            name = self._free.pop() if self._free else self._create(self._template)
        url = self._url_of(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_EMPTY.encode())
            clock.reset(connection)
        return url

    def give_back(self, url: str) -> None:
        """Nobody uses it any more."""
        with self._lock:
            self._free.append(urlsplit(url).path.lstrip("/"))

    def close(self) -> None:
        """Drop them all, and stop the server if it is ours."""
        with self._lock:
            server, made, admin_url = self._server, self._made, self._admin_url
            folder = self._folder
        self._begin()
        if server is not None:
            server.stop(immediate=True)
        elif made:
            with psycopg.connect(admin_url, autocommit=True) as admin:
                for name in reversed(made):
                    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _open(self) -> None:
        atexit.register(self.close)
        settings = Settings.from_env({name: value for name, value in os.environ.items() if name == VARIABLE})
        if settings.sim_database_url is not None:
            self._admin_url = settings.sim_database_url.get_secret_value().replace("+psycopg", "", 1)
        else:
            self._folder = Path(tempfile.mkdtemp(prefix="orchestrator-sim-"))
            # Tied, it ends with this process, however that ends; and with the thread that starts it.
            tied = threading.current_thread() is threading.main_thread()
            self._server = EmbeddedPostgres(self._folder, durable=False, tied=tied)
            self._server.start()
            self._admin_url = self._server.url_of("postgres")
        template = self._create()
        migrate.upgrade(self._url_of(template))
        with psycopg.connect(self._url_of(template), autocommit=True) as connection:
            clock.install(connection)
        self._template = template

    def _create(self, template: str = "") -> str:
        name = f"sim_{uuid.uuid4().hex[:16]}"
        copy = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        with psycopg.connect(self._admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copy)
        self._made.append(name)
        return name

    def _url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self._admin_url)._replace(path=f"/{name}"))


databases: Final = Databases()
"""This process's."""
