"""A peer as a contender: its driver, a process of the peer's own Python, told what to do line by line."""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import cpu
from benchmarks.cpu import Cpu
from benchmarks.processes import ROOT, BenchFailed

_READY_S: Final = 180.0
_STOP_S: Final = 20.0


class DriverFailed(BenchFailed):
    """A peer's driver does not run; the others are measured all the same."""


class Driven:
    """One driver at a time, with all it starts in one process group."""

    patience_s = 90.0
    """How long one request may take."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], servers: Mapping[str, int], folder: Path
    ) -> None:
        self.name = name
        self._command = list(command)
        self._env = env
        self._servers = servers
        self._folder = folder
        self._log = folder / f"{name.replace(' ', '-')}.log"
        self._start()

    def _start(self) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._command,
                env={**inherited, **self._env, "PYTHONPATH": str(ROOT), "PEER_FOLDER": str(self._folder)},
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._heard = b""
        try:
            answer = self._hear(_READY_S)
        except (DriverFailed, TimeoutError) as exc:
            self._kill()
            raise DriverFailed(f"The driver of {self.name} did not get ready.{self._tail()}") from exc
        except BaseException:
            self._kill()
            raise
        if answer != {"ready": True}:
            self._kill()
            raise DriverFailed(f"The driver of {self.name} began with {answer}.{self._tail()}")

    def _tail(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return "".join(f"\n{line}" for line in ["The end of its log:", *lines[-15:]]) if lines else ""

    def _hear(self, patience_s: float) -> dict[str, Any]:
        """The next line.

        Raises:
            TimeoutError: there is none in time.
            DriverFailed: there will be none.
        """
        stream = self._popen.stdout
        assert stream is not None
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._heard:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"there was no answer within {patience_s:.0f} s")
            if not (more := os.read(stream.fileno(), 65536)):
                raise DriverFailed(f"The driver of {self.name} ended.{self._tail()}")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DriverFailed(f"The driver of {self.name} said {line[:200]!r}, which is not an answer.")
        return answer

    def _do(self, what: str, count: int = 1) -> float:
        """Seconds by the driver's clock.

        Raises:
            TimeoutError: the driver did not get it done, for whatever reason; `restart` before anything else.
        """
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps({"do": what, "count": count}).encode() + b"\n")
            self._popen.stdin.flush()
            answer = self._hear(self.patience_s)
        except (BrokenPipeError, DriverFailed) as exc:
            raise TimeoutError(f"its driver ended or lost the thread: {_first_line(exc)}") from exc
        if "seconds" not in answer:
            raise TimeoutError(f"its driver failed: {_first_line(answer.get('error', answer))}")
        return float(answer["seconds"])

    def chains(self, count: int) -> None:
        self._do("chains", count)

    def plain(self, count: int) -> None:
        self._do("plain", count)

    def chain(self) -> float:
        return self._do("chain")

    def fan(self, count: int) -> float:
        return self._do("fan", count)

    def start_each(self, count: int) -> None:
        self._do("start_each", count)

    def start_many(self, count: int) -> None:
        self._do("start_many", count)

    def pause(self) -> None:
        """Nothing: what is started goes where nobody works on it."""

    def go_on(self) -> None:
        """Nothing to let go on."""

    def cpu(self) -> Cpu:
        return cpu.read(self._popen.pid, self._servers)

    def restart(self) -> None:
        self._kill()
        self._start()

    def close(self) -> None:
        """The end of its input is the driver's sign; what is left after that is killed."""
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError):
            self._popen.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_STOP_S)
        self._kill()

    def _kill(self) -> None:
        """SIGKILL to the driver, all below it and its group."""
        below: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(self._popen.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        for one in below:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self._popen.wait()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def _first_line(what: object) -> str:
    return (str(what).splitlines() or [type(what).__name__])[0].rstrip(".")
