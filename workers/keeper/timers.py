"""Steps whose time has come go on: those that back off are ready again, those without a handler are looked at; and
runs that have ended are told to those that called them."""

from datetime import timedelta
from typing import Final

from orchestrator.core.facts import Swept
from orchestrator.engine.subflows import report
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_HELP_S: Final = 5.0
_BEHIND: Final = timedelta(seconds=2)
"""The others help with steps that the leader should have looked at so long ago; or cannot, if it is of a release
before."""


def duty(state: WorkerState) -> Duty:
    """When the next timer is due, and every second: another process may set an earlier one at any moment."""
    walk, told = Walk(), Walk()

    def page() -> Swept:
        ledger = state.runtime().ledger
        due = swept = sweep.due(ledger)
        if due.to_wake:
            swept += wake(ledger, walk)
        if due.untold:
            swept += report.untold(ledger, told)
        return swept

    def behind() -> Swept:
        return wake(state.runtime().ledger, walk, late=_BEHIND)

    return Duty("timers", Scope.CLUSTER, state.poll_s, page, help=behind, help_s=_HELP_S)
