"""Handlers of this worker that run past their step's timeout, or their halted run's grace, are ended."""

from time import monotonic

from orchestrator.core.facts import Swept
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.walk import PAGE, Walk
from orchestrator.workers.keeper.children import Children
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


class Overruns:
    """Asks each second while a handler runs here, and every other sweep while none does: claims may be held between two
    steps."""

    def __init__(self, state: WorkerState, children: Children) -> None:
        self._state = state
        self._children = children
        self._walk = Walk()
        self._next = 0.0

    def page(self) -> Swept:
        if monotonic() < self._next and not self._state.busy:
            return Swept()
        found = sweep.overruns(self._state.runtime().ledger, self._state.worker_id, self._walk)
        self._next = monotonic() + 2 * self._state.settings.sweep_interval.total_seconds()
        for overrun in found:
            self._children.stop(overrun)
        dispatches = tuple(dispatch for overrun in found for dispatch in overrun.dispatches)
        return Swept(len(found), dispatches, more=len(found) >= PAGE)

    def duty(self) -> Duty:
        """Each worker's own: a handler is ended by its main process."""
        return Duty("overruns", Scope.WORKER, self._state.poll_s, self.page)
