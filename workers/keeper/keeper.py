"""The keeper: threads in a worker's main process that move what nobody else moves.

A table of duties, each in a file of its own. Those of the cluster are done by one process, the leader; any other one
may take over at any moment.
"""

import threading
from typing import Any

from celery import bootsteps

from orchestrator.observe.logs import quiet_warnings
from orchestrator.workers.keeper import cluster
from orchestrator.workers.keeper.children import Children
from orchestrator.workers.keeper.drain import Drain
from orchestrator.workers.keeper.grace import Grace
from orchestrator.workers.keeper.loops import Loops
from orchestrator.workers.keeper.overruns import Overruns
from orchestrator.workers.keeper.probe import Probe
from orchestrator.workers.keeper.registration import Registration
from orchestrator.workers.keeper.ticks import Ticks
from orchestrator.workers.state import WorkerState, pool_name, state_of


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
        if state.metering is not None:
            state.metering.begin(lambda: state.runtime().ledger.connections)
        state.keeper = Keeper(state, worker)
        state.keeper.start()

    def stop(self, worker: Any) -> None:
        """The keeper goes on while the pool drains; `Keeper.stop` is called when the worker has ended."""


class Keeper:
    """A worker's: the duties of the cluster, and those that need its own pool and consumer."""

    def __init__(self, state: WorkerState, worker: Any) -> None:
        self.probe = Probe(state, worker)
        self._children = Children(state, worker)
        self._drain = Drain(state)
        self._grace = Grace(state, worker, self._children)
        ended = threading.Event()
        ticks = Ticks(state, ended)
        solo = worker.pool_cls.__module__.endswith("solo")  # consumes nothing while a step runs
        registration = Registration(
            state,
            pool=pool_name(worker),
            concurrency=worker.concurrency,
            queues=state.app.amqp.queues.consume_from,
            consuming=lambda: self.probe.consuming,
        )
        own = [
            registration.duty(),
            Overruns(state, self._children).duty(),
            self._children.duty(),
            ticks.announced(),
            *([] if solo else [self.probe.duty()]),
        ]
        self._loops = Loops(state, [*cluster.duties(state, ticks), *own], ended)

    def start(self) -> None:
        self._loops.start()
        self._drain.start()
        self._grace.start()

    def stop(self) -> None:
        """The worker ended."""
        self._drain.end()
        self._grace.end()
        self._loops.stop()

    def child_lost(self, pid: int | None) -> None:
        """A pool child died; called on the hub, so only a nudge."""
        if pid is not None:
            self._children.report(pid)
        self._loops.nudge("children")

    def shut_down(self) -> None:
        """A warm shutdown began; called in a signal handler."""
        self._drain.begin()
        self._grace.begin()
        self._loops.nudge("register")
