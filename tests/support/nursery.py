"""Workers without the wait: a process that has imported everything forks them, each in a session of its own."""

import contextlib
import gc
import importlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.worker_process import WorkerProcess

_ROOT = Path(__file__).resolve().parents[2]
_MAIN = "from tests.support.nursery import main; main()"
HEAVY = (
    "alembic.command",
    "celery.app.amqp",
    "celery.concurrency.prefork",
    "celery.concurrency.thread",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.strategy",
    "kombu.transport.redis",
    "orchestrator.authoring.discovery",
    "orchestrator.client",
    "orchestrator.engine.runs.explain",
    "orchestrator.http.server",
    "orchestrator.ledger.migrate",
    "orchestrator.workers.app.beat",
    "orchestrator.workers.process.command",
    "sqlalchemy.dialects.postgresql.psycopg",
    "tests.support.beat_process",
    "tests.support.worker_process",
)


def main() -> None:
    """What the nursery's process runs: a request per line in, a pid per line out."""
    from orchestrator.workers.process.supervise import die_with_parent

    die_with_parent(os.getppid())
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # the first full collection of a child would make pages its own, 30 MB that no worker leaks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for exit codes, so nobody stays a zombie
    here = os.getpid()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _grow_up(here, request)
        print(pid, flush=True)


def _grow_up(parent: int, request: Mapping[str, Any]) -> None:
    """Become a process of one's own and run what was asked for. Never returns."""
    from orchestrator.workers.process.supervise import die_with_parent

    code = 1
    try:
        os.setsid()
        die_with_parent(parent)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        random.seed()
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["folder"])
        module, _, function = request["call"].partition(":")
        code = getattr(importlib.import_module(module), function)(*request["args"]) or 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        _code_file(Path(request["log"]), os.getpid()).write_text(str(code))
        os._exit(code)


def _code_file(log: Path, pid: int) -> Path:
    """Where a process notes how it ended, if it ends by itself."""
    return log.with_name(f"{log.name}.{pid}")


class Nursery:
    """The test's side of it."""

    def __init__(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**env, "PYTHONPATH": str(_ROOT)},
        )

    def fork(self, call: str, *args: Any, env: Mapping[str, str], log: Path, folder: Path) -> int:
        """The pid of a new process, the leader of its own session, that calls `module:function` with `args` (JSON)."""
        request = {"call": call, "args": args, "env": dict(env), "log": str(log), "folder": str(folder)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery's process has ended; what it said is above"
        return int(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def nursery() -> Iterator[Nursery]:
    """Open while the block runs; its processes die with it."""
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


def alive(pid: int) -> bool:
    """Whether this process has not ended; a zombie has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def stopped(pid: int) -> bool:
    """Whether this process is paused."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


class Forked(WorkerProcess):
    """A worker out of a nursery."""

    entry = "tests.support.worker_process:main"

    def __init__(self, nursery: Nursery, settings: Settings, flows: str, folder: Path, **options: Any) -> None:
        super().__init__(settings, flows, folder, **options)
        self._nursery = nursery
        self._pid = 0
        self._identity: psutil.Process | None = None
        """It, whoever has its number later: in a long soak they come round."""

    def start(self, *, ready: bool = True) -> "Forked":
        self.begin(json.loads(self._argv[-1]))
        if ready:
            self.wait_ready()
        return self

    def begin(self, options: Mapping[str, Any]) -> None:
        """Fork it."""
        self._pid = self._nursery.fork(self.entry, options, env=self._env, log=self.log_file, folder=self._folder)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._identity = psutil.Process(self._pid)

    def wait_ready(self, timeout: float = 60.0) -> None:
        def check() -> bool:
            if not self.alive:
                raise RuntimeError(f"The worker ended:\n{self.tail()}")
            return self.log().count(" ready.") >= self._expected

        eventually(check, timeout=timeout, message="the worker is ready")

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def started(self) -> bool:
        return self._pid != 0

    @property
    def alive(self) -> bool:
        return self._is_its_own() and alive(self._pid)

    def _is_its_own(self) -> bool:
        """Whether its number is still its own: while there is one of its group, nobody else gets it."""
        return self._identity is not None and (self._identity.is_running() or not psutil.pid_exists(self._pid))

    def kill(self) -> None:
        """SIGKILL to the whole group, if there is one."""
        if self._is_its_own():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
        eventually(lambda: not self.alive, timeout=60, message="the worker is gone")

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code; -9 stands for every signal."""
        eventually(lambda: not self.alive, timeout=timeout, message="the worker ends")
        noted = _code_file(self.log_file, self._pid)
        return int(noted.read_text()) if noted.exists() else -signal.SIGKILL


def all_of(pids: Sequence[int]) -> list[int]:
    """Those that live, with everything below them."""
    found = list(pids)
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return [pid for pid in found if alive(pid)]
