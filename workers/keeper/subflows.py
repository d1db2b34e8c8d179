"""Runs that steps of other runs wait for are stopped with the run that called them."""

from typing import Final

from orchestrator.engine.subflows import stopping
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_SWEEPS: Final = 3
"""Whoever cancels a run stops those that it called, and a deadline is theirs, too: this is for whoever dies in
between."""


def orphans(state: WorkerState) -> Duty:
    """Every third sweep."""
    settings = state.settings
    return Duty(
        "orphans",
        Scope.CLUSTER,
        _SWEEPS * settings.sweep_interval.total_seconds(),
        lambda: stopping.stop_children(state.runtime().ledger, None, settings.cancel_grace),
    )
