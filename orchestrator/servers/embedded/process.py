"""Start, recognise and stop processes without ever hitting a stranger that got a reused pid."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

import psutil

_LAUNCH = Path(__file__).with_name("launch.py")
_POLL_S = 0.02


@dataclass(frozen=True)
class Identity:
    """One process for all time: a pid alone is given to another process sooner or later."""

    pid: int
    started: str
    """A mark that differs for two processes of one pid; see `start_mark`."""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has `pid` now, or None when there is none."""
        started = start_mark(pid)
        return None if started is None else cls(pid, started)

    def is_alive(self) -> bool:
        """True until the process has ended; a zombie has ended."""
        if start_mark(self.pid) != self.started:
            return False
        try:
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def send(self, number: signal.Signals) -> bool:
        """Signal the process if it is still the same one. False: it has ended."""
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, timeout_s: float) -> bool:
        """True as soon as the process has ended, False after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.is_alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True


def start_mark(pid: int) -> str | None:
    """Boot id and kernel start tick on Linux (no clock change moves them), the creation time elsewhere."""
    if pid <= 0:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if sys.platform.startswith("linux") else _created(pid)
    # The command name may hold spaces and brackets; the fields after its last bracket are fixed. 22 is starttime.
    return f"{_boot_id()}:{stat.rpartition(')')[2].split()[19]}"


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _created(pid: int) -> str | None:
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


@dataclass(frozen=True)
class User:
    """Run as this user. `namespace`: only inside a user namespace; `drop`: really."""

    how: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Launch:
    """How to start a process. The paths are checked as the user it will run as."""

    program: Sequence[str]
    folder: Path = Path("/")
    user: User | None = None
    death_signal: signal.Signals | None = None
    """Sent by the kernel when the starting thread ends, so start from the main thread."""
    writable: Sequence[Path] = ()
    executable: Sequence[Path] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    umask_private: bool = True

    def command(self) -> list[str]:
        options: dict[str, Any] = {
            "user": asdict(self.user) if self.user else None,
            "folder": str(self.folder),
            "death_signal": int(self.death_signal) if self.death_signal else None,
            "parent": os.getpid(),
            "private": self.umask_private,
            "check": {
                "writable": [str(path) for path in self.writable],
                "executable": [str(path) for path in self.executable],
            },
        }
        return [sys.executable, "-I", "-S", str(_LAUNCH), json.dumps(options), "--", *self.program]


def start(launch: Launch, output: int | IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start in a session of its own, so that Ctrl-C on the terminal reaches us and not our servers."""
    return subprocess.Popen(
        launch.command(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(launch.env),
        start_new_session=True,
    )


def run(launch: Launch, timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run to the end and return the text of stdout and stderr together."""
    return subprocess.run(
        launch.command(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(launch.env),
        text=True,
        errors="replace",
        start_new_session=True,
        timeout=timeout_s,
        check=False,
    )


def stop(identity: Identity, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """Send each signal in turn and wait its seconds; True as soon as the process has ended."""
    for number, patience_s in steps:
        if not identity.send(number):
            break
        if identity.wait(patience_s):
            break
    return not identity.is_alive()


def marked(name: str, value: str) -> list[Identity]:
    """Every process of ours whose environment holds `name=value`: children, and what they left behind."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(Identity.of(process.pid))
        except (psutil.Error, OSError):
            continue
    return [identity for identity in found if identity is not None]
