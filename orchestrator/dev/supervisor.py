"""Start the stack, keep it running, stop all of it."""

import contextlib
import importlib.util
import math
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Final

import psycopg

from orchestrator.dev import access, data_dir, flows, output
from orchestrator.dev.children import Child, Role
from orchestrator.dev.options import DevOptions
from orchestrator.dev.output import Lines
from orchestrator.dev.stack import Stack
from orchestrator.errors import DevFailed
from orchestrator.full_disk import FULL
from orchestrator.ledger import migrate
from orchestrator.servers.embedded.discovery import DATA_DIR, DevState, Pids
from orchestrator.servers.embedded.process import Identity
from orchestrator.servers.embedded.server import HOST, free_port, is_free
from orchestrator.servers.here import beside_dev, settings_here
from orchestrator.settings import Settings, variable

_FULL_AGAIN_S: Final = 30.0
_READY_TIMEOUT_S: Final = 90.0
_LISTENS_S: Final = 20.0
_STOP_GRACE: Final = timedelta(seconds=15)
"""Of its workers, when nobody says otherwise: somebody waits at the terminal."""
_LATE_S: Final = 2.0
"""After their grace workers end themselves: one that has not hangs."""
_FLOWER_STOP_S: Final = 3.0
_TICK_S: Final = 0.5
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Here and not in the ledger: `dev` asks it of a database that may not be the one this process is set up for.
_WORKERS_SEEN: Final = "SELECT pid FROM flow_workers WHERE started_at > %s"


class _Interrupted(BaseException):
    """A signal asked to stop while the stack was still starting."""


class Signals:
    """Counts requests to stop, and wakes the main thread for them and for ended children."""

    def __init__(self) -> None:
        self.stops = 0
        self.interruptible = False

    @contextlib.contextmanager
    def caught(self) -> Iterator["Signals"]:
        """Handle the signals of the whole process; main thread only."""
        self._reader, writer = socket.socketpair()
        self._reader.setblocking(False)
        writer.setblocking(False)
        before = {number: signal.signal(number, self._note) for number in (*_STOP_SIGNALS, signal.SIGCHLD)}
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield self
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._reader.close()
            writer.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self.stops += 1
        if self.interruptible:
            self.interruptible = False
            raise _Interrupted

    def wait(self, timeout_s: float) -> None:
        """Until a signal or the time is over."""
        with contextlib.suppress(BlockingIOError, InterruptedError):
            if select.select([self._reader], [], [], timeout_s)[0]:
                self._reader.recv(4096)


def run_dev(options: DevOptions, env: Mapping[str, str] | None = None) -> int:
    """Run the stack until a signal stops it; the exit code. Call it from the main thread.

    Raises:
        DevRunning: another `dev` uses the data directory.
        DevFailed, EmbeddedMissing, EmbeddedFailed, Unavailable, SettingsInvalid: it did not come up; nothing is left.
    """
    env = os.environ if env is None else env
    settings = Settings.from_env(env)
    folder = (options.data_dir or Path.cwd() / DATA_DIR).absolute()
    with data_dir.locked(folder), Signals().caught() as signals:
        lines = Lines(as_json=settings.log_format == "json")
        try:
            return Supervisor(options, settings, env, folder, signals, lines).run()
        finally:
            lines.close()


def _has_api() -> bool:
    """Whether what the API needs is installed."""
    return importlib.util.find_spec("fastapi") is not None and importlib.util.find_spec("uvicorn") is not None


class Supervisor:
    """The one object that knows every process of the stack."""

    def __init__(
        self,
        options: DevOptions,
        settings: Settings,
        env: Mapping[str, str],
        folder: Path,
        signals: Signals,
        lines: Lines,
    ) -> None:
        self.options = options
        self.flows = options.flows or settings.flows
        self.migrate = settings.migrate
        self.stop_grace = settings.stop_grace or _STOP_GRACE
        # Nobody's collector reads what stands behind the names of processes, so `auto` is `line` here.
        self.log_format = "json" if settings.log_format == "json" else "line"
        self.env = env
        self.folder = folder
        self.signals = signals
        self.lines = lines
        self.token = secrets.token_urlsafe(24)
        self.stack = Stack.of(options, settings, folder, lines.say)
        self.workers: list[Child] = []
        self.beat: Child | None = None
        self.flower: Child | None = None
        self.flower_port = 0
        self.api: Child | None = None
        self.api_port = 0
        self.api_key: str | None = None
        self.is_ready = False

    def run(self) -> int:
        try:
            self.signals.interruptible = True
            self._start()
            self.signals.interruptible = False
            self._watch()
        except _Interrupted:
            pass
        finally:
            self.signals.interruptible = False
            self._stop()
        return 0

    def _start(self) -> None:
        data_dir.clean_up_predecessor(self.folder, self.lines.say)
        found = flows.names(self.flows, self.env, Path.cwd())
        self.stack.start()
        if self.migrate:
            migrate.upgrade(*self.stack.direct())
        began = self._database_time()
        self._make_children()
        self._make_key()
        self._write_state()
        for child in self._children:
            child.start()
        self._write_state()
        self._await_workers(began)
        self._await_listener(self.flower, self.flower_port)
        self._await_listener(self.api, self.api_port)
        self.is_ready = True
        state = self._write_state()
        output.ready(state, found, as_json=self.options.output == "json", found=self._is_found())

    def _is_found(self) -> bool:
        """Whether commands in this folder find both servers by themselves."""
        here = settings_here(self.env, Path.cwd())
        urls = {variable("database_url"): self.stack.database_url, variable("broker_url"): self.stack.broker_url}
        mine = Settings.from_env({**self.env, **urls})
        return (here.database_url, here.broker_url) == (mine.database_url, mine.broker_url)

    @property
    def _children(self) -> list[Child]:
        return [*self.workers, *(child for child in (self.beat, self.api, self.flower) if child)]

    def _make_children(self) -> None:
        self.flower_port = self._choose_port("flower", 2)
        self.api_port = self._choose_port("api", 3)
        pool = ["--pool", self.options.pool, "--concurrency", str(self.options.concurrency)]
        env = self._child_env()
        here = Path.cwd()
        for number in range(1, self.options.workers + 1):
            program = self._program("worker", *pool)
            # SIGQUIT is Celery's cold stop: without `dev` nobody waits for what the steps still do.
            self.workers.append(Child(Role(f"worker-{number}", program, env, signal.SIGQUIT, here), self.lines))
        # SIGTERM, so that it gives its lock back: the next `dev` would wait for it.
        self.beat = Child(Role("beat", self._program("beat"), env, signal.SIGTERM, here), self.lines)
        program = self._program("flower", "--port", str(self.flower_port))
        # It warns of every worker that is not up yet, and lists Celery's own tasks: noise beside the workers' lines.
        quiet = {"FLOWER_LOGGING": "error", **env}
        self.flower = Child(Role("flower", program, quiet, signal.SIGTERM, here), self.lines)
        if _has_api():
            program = self._program("api", "--port", str(self.api_port))
            self.api = Child(Role("api", program, env, signal.SIGTERM, here), self.lines)
        else:
            self.lines.say("without the HTTP API: pip install 'flow-orchestrator[api]'")

    def _make_key(self) -> None:
        if self.api is None:
            return
        if self.migrate:
            self.api_key = access.fresh_key(*self.stack.direct())
        else:
            self.lines.say("made no key, for the schema is not ours: orchestrator key create --name NAME --role admin")

    def _program(self, *arguments: str) -> list[str]:
        """Without the current folder on the path, where a project may have a `queue.py` or `redis.py` of its own."""
        return [sys.executable, "-P", "-m", "orchestrator", *arguments]

    def _child_env(self) -> dict[str, str]:
        data_dir.make_signing_key(self.folder)
        given = dict(self.env)
        if given.pop(variable("health_address"), None):
            self.lines.say(f"without {variable('health_address')}: the processes of `dev` cannot share one port")
        return {
            **beside_dev(self.folder),
            **given,
            variable("database_url"): self.stack.database_url,
            variable("broker_url"): self.stack.broker_url,
            variable("flows"): ",".join(self.flows),
            variable("stop_grace"): str(self.stop_grace.total_seconds()),
            variable("log_format"): self.log_format,
            variable("deploy_at_start"): "true",  # someone who edits back and forth wants what the file says
            data_dir.MARK: self.token,
            "PYTHONUNBUFFERED": "1",
        }

    def _choose_port(self, name: str, offset: int) -> int:
        wanted = self.options.port(offset)
        if wanted is not None:
            if not is_free(wanted):
                raise DevFailed(
                    f"Port {wanted} for {name} is taken by another program. Fix: choose another --port-base."
                )
            return wanted
        remembered = data_dir.remembered_port(self.folder, name)
        port = remembered if remembered and is_free(remembered) else free_port()
        data_dir.remember_port(self.folder, name, port)
        return port

    def _write_state(self) -> DevState:
        mine = Identity.of(os.getpid())
        assert mine is not None
        state = DevState(
            pid=mine.pid,
            started=mine.started,
            token=self.token,
            data_dir=str(self.folder),
            database_url=self.stack.database_url,
            broker_url=self.stack.broker_url,
            flower_url=f"http://{HOST}:{self.flower_port}" if self.flower else None,
            api_url=f"http://{HOST}:{self.api_port}" if self.api else None,
            api_key=self.api_key,
            flows=self.flows,
            ready=self.is_ready,
            pids=self._pids(),
        )
        state.write()
        return state

    def _pids(self) -> Pids:
        pids = Pids(workers=tuple(child.pid for child in self.workers if child.pid is not None))
        if self.stack.postgres:
            pids = replace(pids, postgres=self.stack.postgres.pid or None)
        if self.stack.broker:
            pids = replace(pids, broker=self.stack.broker.pid or None)
        pids = replace(pids, beat=self.beat.pid if self.beat else None)
        pids = replace(pids, api=self.api.pid if self.api else None)
        return replace(pids, flower=self.flower.pid if self.flower else None)

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        plain = self.stack.database_url.replace("postgresql+psycopg://", "postgresql://", 1)
        return psycopg.connect(plain, autocommit=True, connect_timeout=5)

    def _database_time(self) -> object:
        with self._connect() as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        return row[0]

    def _await_workers(self, began: object) -> None:
        """Until every worker has written itself into the ledger, which it does once it consumes."""

        def seen() -> bool:
            for worker in self.workers:
                if not worker.is_running():
                    raise DevFailed(
                        f"{worker.name} {worker.ending()} before it was ready. The end of its output:\n{worker.tail}\n"
                        "Fix: act on what it says, then start `orchestrator dev` again."
                    )
            try:
                known = {row[0] for row in connection.execute(_WORKERS_SEEN, [began])}
            except psycopg.errors.UndefinedTable:
                return False  # with ORCHESTRATOR_MIGRATE=false the workers say so themselves, and end
            return known >= {worker.pid for worker in self.workers}

        with self._connect() as connection:
            if not self._poll(seen):
                raise DevFailed(
                    f"The workers were not ready after {_READY_TIMEOUT_S:g} s. The end of the output of "
                    f"{self.workers[0].name}:\n{self.workers[0].tail}\nFix: act on what it says."
                )

    def _await_listener(self, child: Child | None, port: int) -> None:
        """Flower and the API are conveniences: without them the stack is ready all the same, and says so."""

        def answers() -> bool:
            if child is None or not child.is_running():
                return True
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, port), timeout=2).close()
                return True
            return False

        self._poll(answers, _LISTENS_S)
        if child and not child.is_running():
            self.lines.say(f"{child.name} {child.ending()}; the stack works without it")

    def _poll(self, check: Callable[[], bool], patience_s: float = _READY_TIMEOUT_S) -> bool:
        deadline = time.monotonic() + patience_s
        while not check():
            if time.monotonic() > deadline:
                return False
            self.signals.wait(0.05)
        return True

    def _watch(self) -> None:
        changed = False
        said_at = -math.inf
        while not self.signals.stops:
            try:
                self.stack.revive()
                tended = [child.tend() for child in self._children]
                changed = changed or any(tended)
                if changed:
                    self._write_state()
                    changed = False
            except OSError as exc:
                if exc.errno not in FULL:
                    raise
                if time.monotonic() - said_at > _FULL_AGAIN_S:
                    said_at = time.monotonic()
                    self.lines.say(
                        f"{self.folder} cannot be written: {exc.strerror}. Fix: make room; `dev` then goes on by itself"
                    )
            self.signals.wait(_TICK_S)

    def _stop(self) -> None:
        """Workers get their grace to finish what they run, and hand back the rest; a second signal ends the wait."""
        running = [child for child in self._children if child.is_running()]
        if running:
            self.lines.say("stopping; press Ctrl-C again to stop without waiting")
        asked = self.signals.stops
        for child in running:
            child.send(signal.SIGTERM)
        began = time.monotonic()
        deadline = began + self.stop_grace.total_seconds() + _LATE_S
        while time.monotonic() < deadline and self.signals.stops <= max(asked, 1) and self._still_running(began):
            self.signals.wait(0.1)
        for child in running:
            child.send(signal.SIGKILL)
            child.finish()
        data_dir.end_marked(self.token, patience_s=0.5 if self.signals.stops > 1 else 2.0)
        self.stack.stop(immediate=self.signals.stops > 1)
        data_dir.forget(self.folder)
        self.lines.say("stopped")

    def _still_running(self, began: float) -> bool:
        flower_patience_over = time.monotonic() > began + _FLOWER_STOP_S
        if self.flower and flower_patience_over:
            self.flower.send(signal.SIGKILL)
        return any(child.is_running() for child in self._children)
