"""One process that `orchestrator dev` keeps alive: a worker, the beat, the API, or Flower."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from orchestrator.dev.output import Lines
from orchestrator.servers.embedded import process
from orchestrator.servers.embedded.process import Identity, Launch

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 30.0
_STEADY_S = 60.0
_TAIL_LINES = 30
_GATHER_S: Final = 0.05
"""How long a line may wait for others."""
_CHUNK: Final = 65536
"""What a pipe holds: when as much was there, its writer may be waiting."""


@dataclass(frozen=True)
class Role:
    """What to run. `death_signal` is what the kernel sends when `dev` is killed."""

    name: str
    program: Sequence[str]
    env: Mapping[str, str]
    death_signal: signal.Signals
    folder: Path


class Child:
    """Started, watched and restarted from the main thread; its output is read by a thread."""

    def __init__(self, role: Role, lines: Lines) -> None:
        self.role = role
        self._lines = lines
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._identity: Identity | None = None
        self._started_at = 0.0
        self._delay_s = _FIRST_DELAY_S
        self._start_at: float | None = None

    @property
    def name(self) -> str:
        return self.role.name

    @property
    def pid(self) -> int | None:
        """None: it does not run."""
        return self._child.pid if self.is_running() and self._child else None

    @property
    def tail(self) -> str:
        """The last lines that it printed."""
        if self._reader is not None and not self.is_running():
            self._reader.join(1.0)
        return "\n".join(f"  {line}" for line in self._tail)

    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        self._tail.clear()
        launch = Launch(
            program=self.role.program,
            folder=self.role.folder,
            death_signal=self.role.death_signal,
            env=self.role.env,
            umask_private=False,
        )
        self._child = process.start(launch, subprocess.PIPE)
        self._identity = Identity.of(self._child.pid)
        self._started_at = time.monotonic()
        self._start_at = None
        assert self._child.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=[self._child.stdout], name=f"read-{self.name}", daemon=True
        )
        self._reader.start()

    def tend(self) -> bool:
        """Notice an end, and start again when its delay has passed. True: something changed."""
        if self.is_running():
            return False
        now = time.monotonic()
        if self._start_at is None:
            steady = now - self._started_at > _STEADY_S
            self._delay_s = _FIRST_DELAY_S if steady else self._delay_s
            self._start_at = now + self._delay_s
            self._lines.say(f"{self.name} {self.ending()}; starting it again in {self._delay_s:g} s")
            self._delay_s = min(self._delay_s * 2, _LONGEST_DELAY_S)
            return True
        if now < self._start_at:
            return False
        self.start()
        self._lines.say(f"{self.name} is started again (pid {self.pid})")
        return True

    def ending(self) -> str:
        """How it ended, in words."""
        code = self._child.returncode if self._child else None
        if code is None:
            return "is not running"
        if code >= 0:
            return f"ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
        return f"was ended by signal {-code}"

    def send(self, number: signal.Signals) -> None:
        """To the main process only; no effect when it has ended."""
        if self.is_running() and self._identity:
            self._identity.send(number)

    def finish(self) -> None:
        """Collect the ended process and the last of its output."""
        if self._child is not None:
            self._child.wait()
        if self._reader is not None:
            self._reader.join(1.0)  # a grandchild may hold the pipe open

    def _read(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), pipe:
            for line in _lines_of(pipe):
                self._tail.append(line)
                self._lines.put(self.name, line)


def _lines_of(pipe: IO[bytes]) -> Iterator[str]:
    """What comes, a few hundredths of a second of it at a time: to be woken by each line would cost a worker that logs
    every step a twentieth of its CPU."""
    rest = b""
    while chunk := os.read(pipe.fileno(), _CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(_text, lines)
        if len(chunk) < _CHUNK:
            time.sleep(_GATHER_S)
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
