"""What one Celery app knows of its flows, and what one process of it holds."""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from celery import Celery
from celery.concurrency import get_implementation

from orchestrator import forks
from orchestrator.authoring.flow import Flow
from orchestrator.authoring.step import Step
from orchestrator.core.connections import of_threads
from orchestrator.core.secrets import names_with
from orchestrator.delivery.hints import EndHints
from orchestrator.delivery.publisher import Publisher
from orchestrator.ledger.rows import Watch
from orchestrator.ledger.traces import LedgerPast
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.metrics.metric import Metric
from orchestrator.observe.observer import slow_statement
from orchestrator.observe.pulse import Pulse
from orchestrator.observe.traces import switch as traces
from orchestrator.servers.broker import SOCKET_TIMEOUT_S
from orchestrator.settings import Settings
from orchestrator.workers.metering import Metering
from orchestrator.workers.run.hand_over import HandOver
from orchestrator.workers.run.heartbeat import Heartbeat
from orchestrator.workers.run.log_writer import LogWriter
from orchestrator.workers.run.loop import Loop
from orchestrator.workers.run.versions import Versions
from orchestrator.workers.shared import Shared

if TYPE_CHECKING:
    from orchestrator.observe.traces.spans import Spans  # with OpenTelemetry's API, which may not be there

AnyFlow = Flow[..., Any]
AnyStep = Step[..., Any]
_SILENCES: Final = 4
_STATEMENTS: Final = 24
DRAINED: Final = 75
"""The exit code of a drained process whose parent would start it again."""


def task_name(flow: str, step_type: str) -> str:
    """The name of a step type's Celery task."""
    return f"{flow}.{step_type}"


def pool_name(worker: Any) -> str:
    """The pool of a Celery worker, as our commands call it. A worker that is not set up yet may have only its name."""
    module = str(get_implementation(worker.pool_cls).__module__)
    return module.rpartition(".")[2].replace("thread", "threads")


@dataclass(frozen=True)
class Runtime:
    """What a process makes for itself after the fork: connections, threads, locks."""

    ledger: Ledger
    publisher: Publisher
    heartbeat: Heartbeat
    loop: Loop
    hand_over: HandOver
    hints: EndHints
    logs: LogWriter | None = None
    """None where a worker is played."""
    spans: "Spans | None" = None
    """None where nobody asked for them."""

    def close(self) -> None:
        traces.end(self.spans)
        if self.logs is not None:
            self.logs.close()
        self.hand_over.close()
        self.publisher.close()
        self.hints.close()
        self.heartbeat.close()
        self.ledger.close()


class WorkerState:
    """One per app, as `app.worker_state`. The worker and its pool children share the id and the page of `shared`."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.flows: Mapping[str, AnyFlow] = {}
        self.alone: Mapping[str, AnyStep] = {}
        """Steps that are started alone, by the name of their flow."""
        self.handlers: dict[str, AnyStep] = {}
        self.versions = Versions()
        self.worker_id = new_worker_id()
        self.main_pid = os.getpid()
        self.slot = 0
        self.shared = Shared()
        self.prefork = False
        self.threads = 1
        """Steps at a time in this process."""
        self.keeper: Any = None  # workers.keeper.Keeper, in a worker's main process
        self.metering: Metering | None = None
        """None where nobody can ask for metrics."""
        self.beat_id = ""
        """The name under which a beat of this app holds the lock; empty: it chooses one."""
        self.consumer = Pulse("consumer", _consumer_limit_s(settings), lambda: self.stopping)
        """Of the main thread, which takes messages; while the worker stops it waits for what runs."""
        self.supervised = False
        """Whether its parent starts it again when it ends."""
        self.drained = False
        """Whether somebody told this process to stop by way of the ledger."""
        self.told_cold = False
        """Whether this worker was told to stop at once, too."""
        self.listens: Callable[[int], None] | None = None
        """Hears on which port this process answers probes."""
        self.waiting: dict[int, Any] = {}
        """Requests that were received and not started, by identity; in the main process."""
        self._runtime: Runtime | None = None
        self._lock = threading.Lock()
        forks.watch(self)
        self._threads = threading.local()
        self._count = 0

    def begin(self) -> None:
        """A worker starts in this process: a new identity, and nothing of an earlier one."""
        self.worker_id = new_worker_id()
        self.main_pid = os.getpid()
        self.shared = Shared()
        self.drained = self.told_cold = False
        self.waiting = {}
        self._threads = threading.local()

    def after_fork(self) -> None:
        """See `forks.Forked`: connections, threads and locks are the parent's."""
        forks.inherited(self._runtime)
        self._runtime = None
        self.versions.after_fork()
        self._lock = threading.Lock()

    def become_child(self, slot: int) -> None:
        """In a new pool child: one step at a time, and no keeper."""
        self.slot = slot
        self.threads = 1
        self.keeper = None
        self.waiting = {}

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Count something, if anybody can ask for it. In a worker's main process only."""
        if self.metering is not None and self.metering.instruments is not None:
            self.metering.instruments.count(metric, *labels, by=by)

    @property
    def stopping(self) -> bool:
        """Whether this worker is in its warm shutdown."""
        return self.shared.stopping

    @property
    def exit_code(self) -> int:
        """Of a process that was told to stop."""
        if self.told_cold:
            return 1
        return DRAINED if self.drained and self.supervised else 0

    @property
    def busy(self) -> bool:
        """Whether this worker runs a handler."""
        return self.shared.busy if self.prefork else self.runtime().heartbeat.holds_any

    @property
    def poll_s(self) -> float:
        """How often a keeper asks for what may be due at any moment."""
        return min(1.0, max(0.05, self.settings.sweep_interval.total_seconds() / 5))

    @property
    def owner(self) -> str:
        """The name under which this thread claims: one per thread of execution, so that a re-read claim is surely its
        own."""
        pid = os.getpid()
        if pid != self.main_pid:
            return f"{self.worker_id}/{pid}"
        name: str | None = getattr(self._threads, "name", None)
        if name is None:
            with self._lock:
                self._count += 1
                name = self._threads.name = f"{self.worker_id}/t{self._count}"
        return name

    def runtime(self) -> Runtime:
        """This process's connections and threads, made on first use."""
        runtime = self._runtime
        if runtime is None:
            with self._lock:
                runtime = self._runtime = self._runtime or self._make()
        return runtime

    def equip(self, runtime: Runtime) -> None:
        """Have it use this instead of what it would make, where a worker is played."""
        self._runtime = runtime

    def _make(self) -> Runtime:
        settings = self.settings
        ledger = Ledger.connect(
            settings.require_database_url(),
            reach=settings.reach(),
            pool_size=max(settings.database_pool_size, of_threads(self.threads)),
            statement_timeout=settings.statement_timeout,
            essential=settings.events == "essential",
            name=f"orchestrator {self.worker_id}",
        )
        ledger.secret_names = names_with(settings.secret_names)
        ledger.payloads, ledger.loop_limit = settings.payloads(), settings.loop_limit
        ledger.slow = Watch(settings.slow_statement.total_seconds(), slow_statement)
        hints = EndHints(settings)
        ledger.ended = hints.announce
        for flow in self.flows.values():
            ledger.know(flow.manifest)
        publisher = Publisher(self.app, settings, ledger)
        hand_over = HandOver(ledger, publisher, self.worker_id, settings.worker_ttl)
        # In the main process of a prefork worker nothing of the user's runs, and what it set up would be inherited.
        public = not (self.prefork and os.getpid() == self.main_pid)
        spans = traces.begin(LedgerPast(ledger), f"{self.worker_id}/{os.getpid()}", public=public)
        if spans is not None:
            ledger.trace_split = settings.trace_split
        return Runtime(ledger, publisher, Heartbeat(settings), Loop(), hand_over, hints, LogWriter(settings), spans)

    def close(self) -> None:
        """Close what this process opened."""
        if self._runtime is not None:
            self._runtime.close()
            self._runtime = None


def _consumer_limit_s(settings: Settings) -> float:
    """A Redis that accepts connections and says nothing is waited for so often in a row before the loop goes on."""
    silence_s = float(settings.broker_transport_options.get("socket_timeout") or SOCKET_TIMEOUT_S)
    return max(settings.hang_after.total_seconds(), _SILENCES * silence_s)


def turn_limit_s(settings: Settings) -> float:
    """How long one turn of a loop may take that asks the ledger, and waits for connections, locks and answers."""
    return max(settings.hang_after.total_seconds(), _STATEMENTS * settings.statement_timeout.total_seconds())


def new_worker_id() -> str:
    """host/pid/random: a restarted process, even one with the same pid, is a different worker."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def state_of(app: Any) -> WorkerState:
    """The state that `make_app` put on this app."""
    state: WorkerState = app.worker_state
    return state
