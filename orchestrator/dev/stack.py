"""The two servers of `orchestrator dev`: embedded, or those that the settings name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final

import psycopg

from orchestrator.core.reach import PLAIN, Reach
from orchestrator.dev.options import DevOptions
from orchestrator.errors import OrchestratorError, Unavailable
from orchestrator.servers import broker
from orchestrator.servers.diagnosis import database_fix, one_line
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.servers.embedded.server import EmbeddedServer
from orchestrator.servers.embedded.valkey import EmbeddedValkey
from orchestrator.settings import Settings
from orchestrator.settings.urls import mask_url

_LONGEST_PAUSE_S: Final = 15.0


@dataclass
class _Wait:
    """Between two tries to start a server."""

    until: float = 0.0
    pause_s: float = 1.0


@dataclass
class Stack:
    """None: the user's own server is used."""

    settings: Settings
    postgres: EmbeddedPostgres | None
    broker: EmbeddedValkey | None
    say: Callable[[str], None]
    _waits: dict[str, _Wait] = field(default_factory=dict)
    """By server that ended, until it is back."""

    @classmethod
    def of(cls, options: DevOptions, settings: Settings, folder: Path, say: Callable[[str], None]) -> "Stack":
        own_database, own_broker = settings.database_url is not None, settings.broker_url is not None
        return cls(
            settings,
            None if own_database else EmbeddedPostgres(folder / "postgres", port=options.port(0)),
            None if own_broker else EmbeddedValkey(folder / "valkey", port=options.port(1)),
            say,
        )

    @property
    def servers(self) -> list[EmbeddedServer]:
        return [server for server in (self.postgres, self.broker) if server is not None]

    @property
    def database_url(self) -> str:
        return self.postgres.url if self.postgres else self.settings.require_database_url()

    def direct(self) -> tuple[str, Reach]:
        """See `Settings.direct`."""
        return (self.postgres.url, PLAIN) if self.postgres else self.settings.direct()

    @property
    def broker_url(self) -> str:
        return self.broker.url if self.broker else self.settings.require_broker_url()

    def start(self) -> None:
        """Both servers serve when this returns. Those of the user's are asked first: without them nothing is started.

        Raises:
            EmbeddedMissing, EmbeddedFailed: an embedded server does not start.
            Unavailable: a server of the user's does not answer.
        """
        if self.postgres is None:
            _check_database(self.database_url)
        if self.broker is None:
            _check_broker(self.settings)
        for server in self.servers:
            adopted = server.start()
            how = "adopted" if adopted else "started"
            self.say(f"{how} {server.title} on port {server.port} (pid {server.pid})")
            server.wanted_port = server.port  # from now on others know it

    def revive(self) -> None:
        """Start a server that ended, with its data, on its port. A failure is reported, and tried again by a later
        call."""
        for server in self.servers:
            if not server.is_running():
                self._start_again(server)

    def _start_again(self, server: EmbeddedServer) -> None:
        wait = self._waits.get(server.name)
        if wait is None:
            self.say(f"{server.title} ended; starting it again")
            wait = self._waits[server.name] = _Wait()
        if monotonic() < wait.until:
            return
        try:
            server.start()
        except OrchestratorError as exc:
            self.say(f"{exc.message} It is tried again in {wait.pause_s:g} s.")
            wait.until = monotonic() + wait.pause_s
            wait.pause_s = min(2 * wait.pause_s, _LONGEST_PAUSE_S)
        else:
            del self._waits[server.name]
            self.say(f"{server.title} is back (pid {server.pid})")

    def stop(self, *, immediate: bool) -> None:
        """End the embedded servers, the broker first. Every one is tried, the first error is raised at the end."""
        errors = []
        for server in reversed(self.servers):
            try:
                server.stop(immediate=immediate)
            except OrchestratorError as exc:
                errors.append(exc)
        if errors:
            raise errors[0]


def _check_database(url: str) -> None:
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        psycopg.connect(plain, connect_timeout=5).close()
    except psycopg.Error as exc:
        reason = one_line(exc)
        raise Unavailable(
            f"PostgreSQL at {mask_url(url)} does not answer: {reason}. Fix: {database_fix(reason)} "
            "Or unset ORCHESTRATOR_DATABASE_URL to use the embedded PostgreSQL."
        ) from exc


def _check_broker(settings: Settings) -> None:
    try:
        broker.connect(settings).release()
    except Unavailable as exc:
        raise Unavailable(f"{exc.message} Or unset ORCHESTRATOR_BROKER_URL to use the embedded Valkey.") from exc
