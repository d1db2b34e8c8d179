"""The keeper: threads in a worker's main process that move what nobody moves.

Expired leases, due timers and schedules, deadlines, hung steps, lost messages, dead children, what is too old, and
proof that this worker consumes. Any number of workers run side by side.
"""

import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from celery import bootsteps

from orchestrator.core.facts import Dispatch, Swept, WorkerInfo
from orchestrator.delivery import message
from orchestrator.engine import workers
from orchestrator.engine.sweeps import sweep
from orchestrator.observe.logs import LEASE_EXPIRED, log, quiet_warnings
from orchestrator.workers.keeper.children import Children
from orchestrator.workers.keeper.lost_messages import LostMessages
from orchestrator.workers.keeper.probe import Probe
from orchestrator.workers.keeper.ticks import Ticks
from orchestrator.workers.keeper.tidy import Tidy
from orchestrator.workers.keeper.unknown_tasks import UnknownTasks
from orchestrator.workers.state import WorkerState, state_of
from orchestrator.workers.supervised import Supervised

PAGE: Final = 500
_DRAIN_S: Final = 0.2
_JOIN_S: Final = 3.0


class KeeperStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the keeper once, after the pool and the beat of `-B` were forked: a fork copies the locks that threads of
    the keeper hold at that moment, and nobody in the child lets them go. A lost broker connection is none of its
    concern."""

    requires = ("celery.worker.components:Pool", "celery.worker.components:Beat")

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        state = state_of(worker.app)
        state.prefork = worker.pool_cls.__module__.endswith("prefork")
        state.threads = 1 if state.prefork else worker.concurrency
        quiet_warnings()

    def start(self, worker: Any) -> None:
        state = state_of(worker.app)
        state.keeper = Keeper(state, worker)
        state.keeper.start()

    def stop(self, worker: Any) -> None:
        """It goes on while the pool drains; `Keeper.stop` is called when the worker has ended."""


class Keeper:
    """Owns the threads."""

    def __init__(self, state: WorkerState, worker: Any) -> None:
        self._state = state
        self._worker = worker
        self._sweep_s = state.settings.sweep_interval.total_seconds()
        self._poll_s = min(1.0, max(0.05, self._sweep_s / 5))
        self._greeted = False
        self._drain = threading.Event()
        self._ended = threading.Event()
        self.probe = Probe(state, worker)
        self._children = Children(state, worker)
        self._lost = LostMessages(state)
        self.unknown_tasks = UnknownTasks(state)
        self._ticks = Ticks(state, self._ended.is_set)
        self._burial = Supervised("children", self._children.bury)
        self._loops = [
            Supervised("register", self._introduce, on_failure=self._greet_again),
            Supervised("sweep", self._sweep),
            Supervised("timers", self._timers),
            Supervised("ticks", self._ticks.take),
            Supervised("watchdog", self._ticks.watch),
            Supervised("queued", self._ticks.start_queued),
            Supervised("overruns", self._overruns),
            Supervised("messages", self._lost.sweep),
            Supervised("tidy", Tidy(state).sweep),
            Supervised("unknown_tasks", self.unknown_tasks.hand_on),
            Supervised("probe", self.probe.tick, on_failure=self.probe.forget_on_outage),
            self._burial,
        ]
        if worker.pool_cls.__module__.endswith("solo"):  # consumes nothing while a step runs
            self._loops = [loop for loop in self._loops if loop.name != "keeper-probe"]

    def start(self) -> None:
        for loop in self._loops:
            loop.start()
        threading.Thread(target=self._give_back, name="keeper-drain", daemon=True).start()

    def stop(self) -> None:
        """The worker ended: say goodbye. Waits for the calls under way, at most a few seconds."""
        self._ended.set()
        self._drain.set()
        for loop in self._loops:
            loop.end()
        deadline = time.monotonic() + _JOIN_S
        for loop in self._loops:
            loop.join(timeout=max(0.0, deadline - time.monotonic()))
        for farewell in (self._leave, self.probe.close, self._lost.close, self._ticks.close):
            try:
                farewell()
            except Exception as exc:  # the row and the key run out by themselves
                log.debug("keeper.farewell_failed", extra={"error": type(exc).__name__})

    def child_lost(self, pid: int | None) -> None:
        """A pool child died; called on the hub, so only a nudge."""
        if pid is not None:
            self._children.report(pid)
        self._burial.nudge()

    def shut_down(self) -> None:
        """A warm shutdown began; called in a signal handler."""
        self._drain.set()

    # ---- the loops ----

    def _introduce(self) -> float:
        ledger = self._state.runtime().ledger
        if not self._greeted:
            workers.hello(ledger, self._info())
            self._greeted = True
        self._greeted = workers.seen(ledger, self._state.worker_id, self.probe.consuming)
        return self._state.settings.worker_ttl.total_seconds() / 3

    def _greet_again(self) -> None:
        self._greeted = False

    def _info(self) -> WorkerInfo:
        host, pid, _ = self._state.worker_id.rsplit("/", 2)
        concurrency = self._worker.concurrency
        return WorkerInfo(
            id=self._state.worker_id,
            host=host,
            pid=int(pid),
            pool=self._worker.pool_cls.__module__.rpartition(".")[2].replace("thread", "threads"),
            concurrency=concurrency,
            prefetch=concurrency * self._state.settings.prefetch_multiplier,
            queues=tuple(sorted(self._state.app.amqp.queues.consume_from)),
            handlers=tuple(sorted(self._state.handlers)),
            release=_release(),
        )

    def _leave(self) -> None:
        workers.gone(self._state.runtime().ledger, self._state.worker_id)

    def _sweep(self) -> float:
        ledger, settings = self._state.runtime().ledger, self._state.settings
        expired = self._pages(lambda page: sweep.expired(ledger, crash_limit=settings.crash_limit, page=page))
        if expired:
            log.warning("lease.expired", extra={"code": LEASE_EXPIRED, "count": expired})
        self._pages(lambda page: sweep.deadlines(ledger, settings.cancel_grace, page))
        self._pages(lambda page: sweep.queue_timeouts(ledger, page))
        return self._sweep_s

    def _timers(self) -> float:
        ledger = self._state.runtime().ledger
        self._pages(lambda page: sweep.due(ledger, page))
        next_s = sweep.next_due(ledger)
        # Another process may set an earlier timer at any moment, so the wait is short even when the next is far.
        return self._poll_s if next_s is None else min(self._poll_s, max(0.01, next_s))

    def _overruns(self) -> float:
        for overrun in sweep.overruns(self._state.runtime().ledger, self._state.worker_id, page=PAGE):
            self._publish(overrun.dispatches)
            self._children.stop(overrun)
        return self._poll_s

    def _pages(self, one: Callable[[int], Swept]) -> int:
        total = 0
        while not self._ended.is_set():
            swept = one(PAGE)
            self._publish(swept.dispatches)
            total += swept.count
            if swept.count < PAGE:
                break
        return total

    def _publish(self, dispatches: tuple[Dispatch, ...]) -> None:
        self._state.runtime().publisher.publish(dispatches)

    # ---- warm shutdown ----

    def _give_back(self) -> None:
        """Send back what was taken from Redis and not started, without waiting for the running steps."""
        self._drain.wait()
        given = 0
        while True:
            try:
                given += self._give_back_waiting()
            except Exception as exc:  # the channel gives them back when it closes
                log.warning("shutdown.give_back_failed", extra={"error": type(exc).__name__})
            if self._ended.wait(_DRAIN_S):
                break
        if given:
            log.info("shutdown.gave_back", extra={"count": given})

    def _give_back_waiting(self) -> int:
        requests = list(self._state.waiting.values())
        if not requests or not self._state.stopping:
            return 0
        if not self._state.runtime().publisher.publish([_dispatch(request) for request in requests]):
            return 0
        for request in requests:
            self._state.waiting.pop(id(request), None)
            request.acknowledge()
        return len(requests)


def _dispatch(request: Any) -> Dispatch:
    return message.read(request.name, request.args, request.delivery_info)


def _release() -> str:
    try:
        return version("flow-orchestrator")
    except PackageNotFoundError:
        return "unknown"
