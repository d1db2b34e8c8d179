"""The keeper: threads in a worker's main process that move what nobody else moves.

A table of duties, each in a file of its own. Those of the cluster are done by one worker, the leader; any other one may
take over at any moment.
"""

import threading
import time
from typing import Any, Final

from celery import bootsteps

from orchestrator.observe.logs import log, quiet_warnings
from orchestrator.workers.keeper import (
    deadlines,
    expired_leases,
    operations,
    queue_timeouts,
    rollups,
    stored,
    subflows,
    timers,
)
from orchestrator.workers.keeper.children import Children
from orchestrator.workers.keeper.drain import Drain
from orchestrator.workers.keeper.duty import Duty, loop_of
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.keeper.lost_messages import LostMessages
from orchestrator.workers.keeper.notifications import Notifications
from orchestrator.workers.keeper.overruns import Overruns
from orchestrator.workers.keeper.probe import Probe
from orchestrator.workers.keeper.registration import Registration
from orchestrator.workers.keeper.ticks import Ticks
from orchestrator.workers.keeper.tidy import Tidy
from orchestrator.workers.state import WorkerState, state_of
from orchestrator.workers.supervised import Supervised

_JOIN_S: Final = 3.0


class KeeperStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the keeper once, after the pool and the beat of `-B` were forked: a fork copies the locks that threads of
    the keeper hold at that moment, and nobody in the child releases them. A lost broker connection does not concern
    it."""

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
        """The keeper goes on while the pool drains; `Keeper.stop` is called when the worker has ended."""


class Keeper:
    """Owns the threads."""

    def __init__(self, state: WorkerState, worker: Any) -> None:
        self.probe = Probe(state, worker)
        self._children = Children(state, worker)
        self._leader = Leader(state)
        self._drain = Drain(state)
        self._ended = threading.Event()
        ticks = Ticks(state, self._ended)
        solo = worker.pool_cls.__module__.endswith("solo")  # consumes nothing while a step runs
        self._duties: list[Duty] = [
            # The cluster's
            expired_leases.duty(state),
            timers.duty(state),
            deadlines.duty(state),
            queue_timeouts.duty(state),
            subflows.orphans(state),
            LostMessages(state).duty(),
            ticks.watchdog(),
            ticks.queued(),
            Tidy(state).duty(),
            stored.duty(state),
            operations.duty(state),
            rollups.duty(state),
            Notifications(state).duty(),
            # Each worker's own
            Registration(state, worker, self.probe).duty(),
            Overruns(state, self._children).duty(),
            self._children.duty(),
            ticks.announced(),
            *([] if solo else [self.probe.duty()]),
        ]
        self._loops = {duty.name: loop_of(duty, state, self._leader) for duty in self._duties}
        self._loops["leader"] = Supervised("leader", self._leader.turn)

    def start(self) -> None:
        for loop in self._loops.values():
            loop.start()
        self._drain.start()

    def stop(self) -> None:
        """The worker ended: say goodbye. Waits for the calls under way, at most a few seconds."""
        self._ended.set()
        self._drain.end()
        for loop in self._loops.values():
            loop.end()
        deadline = time.monotonic() + _JOIN_S
        for loop in self._loops.values():
            loop.join(timeout=max(0.0, deadline - time.monotonic()))
        for farewell in (self._leader.close, *(duty.close for duty in self._duties)):
            try:
                if farewell is not None:
                    farewell()
            except Exception as exc:  # the row and the key run out by themselves
                log.debug("keeper.farewell_failed", extra={"error": type(exc).__name__})

    def child_lost(self, pid: int | None) -> None:
        """A pool child died; called on the hub, so only a nudge."""
        if pid is not None:
            self._children.report(pid)
        self._loops["children"].nudge()

    def shut_down(self) -> None:
        """A warm shutdown began; called in a signal handler."""
        self._drain.begin()
        self._loops["register"].nudge()
