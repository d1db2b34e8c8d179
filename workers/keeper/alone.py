"""A keeper without a worker: what sleeps wakes, schedules fire and lost messages are sent while no worker runs."""

from threading import Event

from orchestrator.core.facts import KEEPER
from orchestrator.workers.keeper import cluster
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.keeper.loops import Loops
from orchestrator.workers.keeper.registration import Registration
from orchestrator.workers.keeper.ticks import Ticks
from orchestrator.workers.state import WorkerState


class KeeperAlone:
    """It runs no step, so it needs neither a pool nor the code of any flow."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        ended = Event()
        ticks = Ticks(state, ended)
        registration = Registration(state, pool=KEEPER, concurrency=0, queues=(), consuming=lambda: False)
        own = [registration.duty(), ticks.announced()]
        self._loops = Loops(state, [*cluster.duties(state, ticks), *own], ended)

    @property
    def leader(self) -> Leader:
        """Which knows whether this process leads."""
        return self._loops.leader

    def start(self) -> None:
        self._loops.start()

    def stop(self) -> None:
        """Say goodbye, and close what the process opened."""
        self._state.shared.stop()
        self._loops.stop()
        self._state.close()
