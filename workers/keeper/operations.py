"""Operations on many runs are worked off."""

from orchestrator.engine.operations import work
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


def duty(state: WorkerState) -> Duty:
    """As often as the other sweeps; while there is more to do, at once. Asked for by an index that has those only that
    go on."""
    return Duty(
        "operations",
        Scope.CLUSTER,
        state.settings.sweep_interval.total_seconds(),
        lambda: work.page(state.runtime().ledger, state.settings.cancel_grace),
    )
