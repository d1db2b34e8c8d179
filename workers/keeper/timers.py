"""Steps whose back-off is over become ready again."""

from orchestrator.engine.sweeps import sweep
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


def duty(state: WorkerState) -> Duty:
    """When the next timer is due, and every second: another process may set an earlier one at any moment."""
    return Duty("timers", Scope.CLUSTER, state.poll_s, lambda: sweep.due(state.runtime().ledger))
