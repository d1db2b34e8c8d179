"""A real standby of a test's embedded server, by `pg_basebackup`."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from orchestrator.servers.embedded import accounts, process
from orchestrator.servers.embedded.accounts import Placement
from orchestrator.servers.embedded.server import HOST, free_port
from tests.support.eventually import eventually
from tests.support.servers import Server

_LONGEST_S: Final = 120


@dataclass
class Standby:
    """Follows `server`. `stop` and `start` it; `pause` what it replays, until `resume`."""

    server: Server
    placement: Placement
    data: Path
    log: Path
    port: int
    running: "subprocess.Popen[bytes] | None" = None

    def url_of(self, url: str) -> str:
        """The same database on the standby."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@{HOST}:{self.port}"))

    def start(self) -> None:
        options = {
            "port": self.port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,  # not fewer than its primary has, or it does not start
        }
        program = [str(self.placement.binaries.postgres), "-D", str(self.data)]
        program += [f"--{name}={value}" for name, value in options.items()]
        with self.log.open("ab") as out:
            self.running = process.start(accounts.launch(self.placement, program, _env(self.server)), out)
        eventually(self._answers, timeout=_LONGEST_S, message="the standby answers")

    def stop(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.send_signal(signal.SIGINT)  # at once, whoever is connected
            with suppress(subprocess.TimeoutExpired):
                running.wait(20)
            running.kill()
            running.wait()

    def pause(self) -> None:
        self._do("SELECT pg_wal_replay_pause()")

    def resume(self) -> None:
        self._do("SELECT pg_wal_replay_resume()")

    def _do(self, statement: str) -> None:
        with psycopg.connect(self.url_of(self.server.admin_url), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _answers(self) -> bool:
        assert self.running is not None
        if self.running.poll() is not None:
            raise RuntimeError(self.log.read_text()[-2000:])
        with suppress(psycopg.OperationalError):
            self._do("SELECT 1")
            return True
        return False


def _env(server: Server) -> dict[str, str]:
    assert server.embedded is not None
    return dict(server.embedded.env)


@contextmanager
def standby(server: Server, folder: Path) -> Iterator[Standby]:
    """A copy of the whole server, running."""
    embedded = server.embedded
    if embedded is None:
        pytest.skip("a server of one's own is not copied")
    placement, port = embedded._placement, free_port()
    data = placement.folder / f"standby-{port}"
    backup = placement.binaries.postgres.with_name("pg_basebackup")
    program = [str(backup), "-D", str(data), "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", server.admin_url]
    done = process.run(accounts.launch(placement, program, _env(server)), _LONGEST_S)
    assert done.returncode == 0, done.stdout
    made = Standby(server, placement, data, folder / f"standby-{port}.log", port)
    try:
        made.start()
        yield made
    finally:
        made.stop()
