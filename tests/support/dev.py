"""An `orchestrator dev` in a process of its own, and who belongs to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from orchestrator.dev.data_dir import MARK
from orchestrator.servers.embedded.discovery import DevState

ROOT = Path(__file__).parents[2]


def project_in(folder: Path, flows: str) -> Path:
    """A folder of a user's, with this text as its `hello.py`."""
    project = folder / "project"
    project.mkdir()
    (project / "hello.py").write_text(flows)
    return project


class Dev:
    """One `dev` process; `program` must use `data_dir` and print JSON. `info` is its ready line."""

    def __init__(
        self, program: Sequence[str], data_dir: Path, folder: Path = ROOT, *, python: str = sys.executable, **env: str
    ) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [python, *program],
                cwd=folder,
                env={**inherited, **env},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.info: dict[str, Any] = {}

    def ready(self) -> "Dev":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.messages
        self.info = json.loads(line)
        return self

    @property
    def messages(self) -> str:
        return self.log.read_text()

    @property
    def state(self) -> DevState:
        found = DevState.read(self.data_dir / "dev.json")
        assert found is not None
        return found

    def everyone(self) -> set[int]:
        """Pids of all processes of this data directory, however deep, except `dev` itself."""
        token = self.state.token
        found = set()
        for process in psutil.process_iter():
            try:
                env = process.environ()
            except (psutil.Error, OSError):
                continue
            if env.get(MARK) == token or env.get("FLOW_ORCHESTRATOR_SERVER", "").startswith(str(self.data_dir)):
                found.add(process.pid)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def stopped_at_the_end(dev: Dev) -> Iterator[Dev]:
    """Ready on entry; stopped on exit, unless the test did."""
    try:
        yield dev.ready()
    finally:
        if dev.process.poll() is None:
            dev.stop()
        assert dev.process.stdout is not None
        dev.process.stdout.close()


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE}
