"""Counts runs that ended, for `stats`."""

from typing import Final

from orchestrator.engine.sweeps import rollups
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_EVERY_S: Final = 30.0


def duty(state: WorkerState) -> Duty:
    """Every half a minute: nobody waits for it."""
    return Duty("rollups", Scope.CLUSTER, _EVERY_S, lambda: rollups.count(state.runtime().ledger))
