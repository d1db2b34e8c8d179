"""What both embedded servers share: who runs, on which port, adopt or start, wait until ready, stop."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Final, Self

import psutil

from orchestrator import full_disk
from orchestrator.errors import EmbeddedFailed
from orchestrator.servers.embedded import process
from orchestrator.servers.embedded.process import Identity, Launch

HOST: Final = "127.0.0.1"
_PORTS: Final = range(15_000, 32_000)
"""Below those that the system gives to connections: there, one that is free may be taken at any moment, and a server
that is started again would not find its own."""
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.02
_PORT_TRIES = 5
_LOG_LIMIT_BYTES = 10 * 1024 * 1024
_MARK = "FLOW_ORCHESTRATOR_SERVER"
_SERVER_ENV = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Record:
    """What is remembered in the data directory, so that the next start finds the server, its port and password."""

    password: str
    port: int = 0
    pid: int = 0
    started: str = ""

    @property
    def identity(self) -> Identity | None:
        return Identity(self.pid, self.started) if self.pid else None

    @classmethod
    def read(cls, path: Path) -> Self | None:
        try:
            values = json.loads(path.read_text())
            return cls(**values)
        except (FileNotFoundError, ValueError, TypeError):
            return None


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step; only its owner can read it, from the first byte."""
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)  # the disk is full: the file of before stays as it was
        raise


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    return next(port for port in iter(lambda: secrets.choice(_PORTS), 0) if is_free(port))


def is_free(port: int) -> bool:
    """True when we could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class NotReady(Exception):
    """The server does not answer yet; the text says what it said."""


class EmbeddedServer(ABC):
    """One server in `folder`. `start` and `stop` may be called again and again; port and password stay.

    port: None chooses a free one and remembers it; a number is used or refused.
    durable: False gives up what only a power cut needs (for tests).
    tied: the kernel ends the server when the thread that started it ends (Linux), so start it from the main thread.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    program: ClassVar[str]
    setting: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        tied: bool = True,
    ) -> None:
        self.folder = folder.absolute()
        self.wanted_port = port
        self.durable = durable
        self.tied = tied
        self.env = {**{key: os.environ[key] for key in _SERVER_ENV if key in os.environ}, "LC_ALL": "C"}
        self.env[_MARK] = str(self.folder)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """With the password."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the server needs before its first start."""

    @abstractmethod
    def _launch(self, port: int) -> Launch: ...

    @abstractmethod
    def _ping(self) -> None:
        """Raises NotReady as long as no client would be served."""

    @abstractmethod
    def _stop_steps(self, immediate: bool) -> Sequence[tuple[signal.Signals, float]]: ...

    def _unrecorded(self) -> Identity | None:
        """A server of this folder whose starter was killed before it could record it."""
        marked = process.marked(_MARK, str(self.folder))
        return next((identity for identity in marked if self._is_ours(identity)), None)

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def record(self) -> Record:
        found = Record.read(self._record_path)
        if found is None:
            found = Record(password=secrets.token_urlsafe(24))
            write_private(self._record_path, json.dumps(asdict(found)))
        return found

    @property
    def _record_path(self) -> Path:
        return self.folder / "server.json"

    @property
    def port(self) -> int:
        return self.record.port

    @property
    def pid(self) -> int:
        """0 when it does not run."""
        identity = self.identity()
        return identity.pid if identity else 0

    def identity(self) -> Identity | None:
        """The running server of this folder, checked to be ours: pid, start mark and program name."""
        recorded = self.record.identity
        if recorded and recorded.is_alive() and self._is_ours(recorded):
            return recorded
        return self._unrecorded()

    def is_running(self) -> bool:
        return self.identity() is not None

    def start(self) -> bool:
        """Adopt the healthy server of this folder or start one, and wait until it serves. True: adopted.

        Raises:
            EmbeddedMissing: the wheel is not installed.
            EmbeddedFailed: it did not come up; the end of its log is in the message, or that its disk is full.
        """
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if self._adopt():
            return True
        self._collect()
        self._prepare()
        for tries_left in reversed(range(_PORT_TRIES)):
            port = self._choose_port()
            try:
                self._start_on(port)
                return False
            except _PortTaken as exc:
                if self.wanted_port is not None or not tries_left:
                    raise EmbeddedFailed(str(exc)) from None
                self._remember(port=0, identity=None)
        raise AssertionError("the last try returns or raises")

    def stop(self, *, immediate: bool = False) -> None:
        """End the server; `immediate` skips the orderly shutdown, as a crash would. No effect when it is not running.

        Raises:
            EmbeddedFailed: it is still there after SIGKILL.
        """
        identity = self.identity()
        if identity is not None and not process.stop(identity, self._stop_steps(immediate)):
            raise EmbeddedFailed(f"{self.title} (pid {identity.pid}) does not end. Fix: kill -9 {identity.pid}")
        self._collect()
        if Record.read(self._record_path) is not None:
            self._remember(port=self.record.port, identity=None)

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer would."""
        identity = self.identity()
        if identity is not None:
            process.stop(identity, [(signal.SIGKILL, 10.0)])
        self._collect()

    def _collect(self) -> None:
        """Take the exit code of our ended child, so that no zombie stays."""
        if self._child is not None and self._child.pid != self.pid:
            self._child.wait()
            self._child = None

    def log_tail(self, lines: int = 15, after: int = 0) -> str:
        """The last lines of the server's log, from byte `after` on."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(after)
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

    def _is_ours(self, identity: Identity) -> bool:
        with contextlib.suppress(psutil.Error):
            command = " ".join(psutil.Process(identity.pid).cmdline())
            return self.program in command and str(self.folder) in command
        return False

    def _adopt(self) -> bool:
        identity = self.identity()
        if identity is None:
            return False
        fits = self.wanted_port in (None, self.record.port) and identity == self.record.identity
        if fits and self._becomes_ready(identity, time.monotonic() + 10.0):
            return True
        self.stop()
        return False

    def _becomes_ready(self, identity: Identity, deadline: float) -> bool:
        while identity.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(NotReady):
                self._ping()
                return True
            time.sleep(_POLL_S)
        return False

    def _choose_port(self) -> int:
        if self.wanted_port is not None:
            if not is_free(self.wanted_port):
                raise EmbeddedFailed(
                    f"Port {self.wanted_port} for {self.title} is taken by another program. "
                    "Fix: choose another --port-base, or leave it out to get free ports."
                )
            return self.wanted_port
        remembered = self.record.port
        return remembered if remembered and is_free(remembered) else free_port()

    def _start_on(self, port: int) -> None:
        self._trim_log()
        launch = self._launch(port)
        self.log_path.touch(mode=0o600)  # statements in it may hold values
        with self.log_path.open("ab") as log:
            begin = log.tell()
            self._child = process.start(launch, log)
        identity = Identity.of(self._child.pid)
        self._remember(port=port, identity=identity)
        if identity is not None and self._becomes_ready(identity, time.monotonic() + _READY_TIMEOUT_S):
            return
        self._give_up(port, begin)

    def _give_up(self, port: int, begin: int) -> None:
        child = self._child
        code = child.poll() if child is not None else None
        tail = self.log_tail(after=begin)
        self.stop(immediate=True)
        if "Address already in use" in tail:
            raise _PortTaken(
                f"Port {port} for {self.title} is taken by another program. "
                "Fix: choose another --port-base, or leave it out to get free ports."
            )
        if (said := full_disk.complaint(tail)) is not None:
            raise EmbeddedFailed(
                f"{self.title} does not start, because its disk is full: {said}. Fix: make room for {self.folder}."
            )
        state = "is not ready after 60 s" if code is None else f"ended with exit code {code}"
        raise EmbeddedFailed(
            f"The embedded {self.title} {state}. The end of {self.log_path}:\n{tail or '  (empty)'}\n"
            f"Fix: act on what the log says, or set {self.setting} to a server of your own."
        )

    def _trim_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.log_path.stat().st_size > _LOG_LIMIT_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".log.old"))

    def _remember(self, *, port: int, identity: Identity | None) -> None:
        pid, started = (identity.pid, identity.started) if identity else (0, "")
        record = replace(self.record, port=port, pid=pid, started=started)
        write_private(self._record_path, json.dumps(asdict(record)))


class _PortTaken(Exception):
    """Someone else was quicker to listen on the port."""
