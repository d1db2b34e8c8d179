"""The table of what one process does for all: none of it needs a pool, a consumer or the code of flows."""

from orchestrator.workers.keeper import (
    deadlines,
    expired_leases,
    operations,
    queue_timeouts,
    rollups,
    stored,
    subflows,
    timers,
)
from orchestrator.workers.keeper.duty import Duty
from orchestrator.workers.keeper.lost_messages import LostMessages
from orchestrator.workers.keeper.notifications import Notifications
from orchestrator.workers.keeper.ticks import Ticks
from orchestrator.workers.keeper.tidy import Tidy
from orchestrator.workers.state import WorkerState


def duties(state: WorkerState, ticks: Ticks) -> list[Duty]:
    """The leader's."""
    return [
        expired_leases.duty(state),
        timers.duty(state),
        deadlines.duty(state),
        queue_timeouts.duty(state),
        subflows.orphans(state),
        LostMessages(state).duty(),
        ticks.watchdog(),
        ticks.queued(),
        Tidy(state).duty(),
        stored.duty(state),
        operations.duty(state),
        rollups.duty(state),
        Notifications(state).duty(),
    ]
