"""A real worker in a process of its own, to be paused, killed and asked about its log."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import psutil

from orchestrator.settings import Settings, variable
from tests.support.eventually import eventually

_ROOT = Path(__file__).resolve().parents[2]
_MAIN = "import sys, json; from tests.support.worker_process import main; sys.exit(main(json.loads(sys.argv[1])))"


def main(options: Mapping[str, object]) -> int:
    """What the process runs: `run_worker` with settings from the environment."""
    from orchestrator.workers.process.command import WorkerOptions, run_worker

    arm(dict(options.get("faults") or {}))  # type: ignore[call-overload]
    options = {key: value for key, value in options.items() if key != "faults"}
    return run_worker(Settings.from_env(os.environ), WorkerOptions(**options))  # type: ignore[arg-type]


def arm(ordered: Mapping[str, str]) -> None:
    """Point to `kill`, `stop` or `hold`."""
    from orchestrator.engine import faults

    for point, kind in ordered.items():
        faults.arm(point, _action(kind, point))


def _action(kind: str, point: str) -> object:
    """`kill` or `stop`, of the process that passes, the first time only: the file makes it so over restarts. `hold`:
    the thread that passes, until there is a file `<point>.go`."""
    marker = Path(os.environ["TEST_FAULT_FOLDER"]) / point

    def act() -> None:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            while kind == "hold":
                if marker.with_name(f"{point}.go").exists():
                    return
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGSTOP)

    return act


def env_of(settings: Settings, **more: str) -> dict[str, str]:
    """The environment in which `Settings.from_env` gives these settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None:
            env[variable(name)] = _text(value)
    return {**env, "PYTHONPATH": str(_ROOT), variable("log_format"): "line", **more}


def _text(value: object) -> str:
    if hasattr(value, "get_secret_value"):
        return str(value.get_secret_value())
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool | int | float | str):
        return str(value)
    import json

    return json.dumps(value)


class WorkerProcess:
    """Started on `start`; everything it logs goes to a file."""

    def __init__(
        self,
        settings: Settings,
        flows: str,
        folder: Path,
        *,
        pool: str = "prefork",
        concurrency: int = 2,
        queues: tuple[str, ...] = (),
        processes: int = 1,
        faults: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        name: str = "w",
    ) -> None:
        import json

        self.log_file = folder / f"{name}.log"
        self._folder = folder
        self._env = env_of(settings, ORCHESTRATOR_FLOWS=flows, TEST_FAULT_FOLDER=str(folder), **(env or {}))
        options = {
            "pool": pool,
            "concurrency": concurrency,
            "queues": queues,
            "processes": processes,
            "name": f"{name}-{os.urandom(3).hex()}",
            "faults": dict(faults or {}),
        }
        self._argv = [sys.executable, "-c", _MAIN, json.dumps(options)]
        self._expected = processes
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> "WorkerProcess":
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv, env=self._env, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: float = 60.0) -> None:
        def check() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"The worker ended with exit code {self.process.returncode}:\n{self.tail()}")
            return self.log().count(" ready.") >= self._expected

        try:
            eventually(check, timeout=timeout, message="the worker is ready")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.tail()}") from None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def started(self) -> bool:
        return self.process is not None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def says(self, text: str) -> None:
        """Wait until this is in its log: what is told of a commit is written after it."""
        eventually(lambda: text in self.log(), message=f"the worker says {text!r}")

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def children(self) -> list[int]:
        """Pids below the worker's process."""
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def term(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def stop(self) -> None:
        """SIGSTOP to the whole group."""
        os.killpg(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def kill_main(self) -> None:
        """SIGKILL to the main process only."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, timeout: float = 60.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout)


@contextlib.contextmanager
def running(worker: WorkerProcess, *, ready: bool = True) -> Iterator[WorkerProcess]:
    """The worker while the block runs; killed at its end if it is still there."""
    try:
        yield worker.start(ready=ready)
    finally:
        if worker.started:
            worker.kill()
