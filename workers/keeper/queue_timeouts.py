"""Steps that nobody claimed within their `queue_timeout` fail."""

from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


def duty(state: WorkerState) -> Duty:
    """Every sweep."""
    walk = Walk()
    return Duty(
        "queue_timeouts",
        Scope.CLUSTER,
        state.settings.sweep_interval.total_seconds(),
        lambda: sweep.queue_timeouts(state.runtime().ledger, walk),
    )
