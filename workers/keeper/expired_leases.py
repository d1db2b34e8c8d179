"""Steps of workers that died or fell silent become ready again."""

from orchestrator.core.facts import Swept
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.observe.logs import LEASE_EXPIRED, log
from orchestrator.observe.metrics import table
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState


def duty(state: WorkerState) -> Duty:
    """Every sweep."""
    settings, walk = state.settings, Walk()

    def page() -> Swept:
        swept = sweep.expired(
            state.runtime().ledger, crash_limit=settings.crash_limit, deploy_limit=settings.deploy_limit, walk=walk
        )
        if swept.changed:
            log.warning("lease.expired", extra={"code": LEASE_EXPIRED, "count": swept.changed})
            state.count(table.LEASE_EXPIRED, by=swept.changed)
        return swept

    return Duty("leases", Scope.CLUSTER, settings.sweep_interval.total_seconds(), page)
