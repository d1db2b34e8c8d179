"""Waiting steps whose time has come, and that have no handler, are looked at again."""

from orchestrator.engine.sweeps.wake import wake
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


def duty(state: WorkerState) -> Duty:
    """When the next of them is due, and every second: another process may set an earlier time at any moment."""
    walk = Walk()
    return Duty("wake", Scope.CLUSTER, state.poll_s, lambda: wake(state.runtime().ledger, walk))
