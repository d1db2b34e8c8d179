"""The worker processes of a benchmark."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from orchestrator.servers.embedded import process
from orchestrator.servers.embedded.process import Launch

ROOT: Final = Path(__file__).resolve().parents[1]
_READY_S: Final = 60.0
_STOP_S: Final = 40.0


class BenchFailed(Exception):
    """What to tell the user."""


class Process:
    """A worker in a process group of its own, with a log of its own. It stops when the benchmark dies (on Linux)."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
        with self.log_file.open("ab") as log:
            launch = Launch(
                program=[sys.executable, *command],
                folder=folder,
                death_signal=signal.SIGTERM,
                env={**inherited, "ORCHESTRATOR_LOG_FORMAT": "line", **env, "PYTHONPATH": str(ROOT)},
                umask_private=False,
            )
            self._popen = process.start(launch, log)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_ready(self, answers: Callable[[], bool]) -> None:
        """Until `answers`; a process that does not get that far is killed.

        Raises:
            BenchFailed: it ended, or took too long; the end of its log is in the message.
        """
        try:
            self._wait_ready(answers)
        except BaseException:
            self.kill()
            raise

    def _wait_ready(self, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_S
        while not answers():
            if self._popen.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(self.log_file.read_text(errors="replace").splitlines()[-15:])
                raise BenchFailed(f"The process {self.name} did not get ready. The end of its log:\n{tail}")
            time.sleep(0.05)

    def pause(self) -> None:
        """SIGSTOP to it and its children."""
        os.killpg(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is left of its group."""
        with suppress(ProcessLookupError):
            self.go_on()
        if self._popen.poll() is None:
            self._popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to its group, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
