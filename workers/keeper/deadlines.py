"""Runs past their deadline are stopped."""

from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


def duty(state: WorkerState) -> Duty:
    """Every sweep."""
    settings, walk = state.settings, Walk()
    return Duty(
        "deadlines",
        Scope.CLUSTER,
        settings.sweep_interval.total_seconds(),
        lambda: sweep.deadlines(state.runtime().ledger, settings.cancel_grace, walk),
    )
