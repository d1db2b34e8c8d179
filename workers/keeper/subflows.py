"""Runs that steps of other runs wait for: their ends are told, and they are stopped with the run that called them."""

from orchestrator.engine.subflows import report, stopping
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


def untold(state: WorkerState) -> Duty:
    """Every second: whoever cancels a run from a program tells nobody."""
    walk = Walk()
    return Duty("untold", Scope.CLUSTER, state.poll_s, lambda: report.untold(state.runtime().ledger, walk))


def orphans(state: WorkerState) -> Duty:
    """Every sweep: deadlines stop runs, and so does whoever dies after that."""
    settings = state.settings
    return Duty(
        "orphans",
        Scope.CLUSTER,
        settings.sweep_interval.total_seconds(),
        lambda: stopping.stop_children(state.runtime().ledger, None, settings.cancel_grace),
    )
