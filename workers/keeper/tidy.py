"""Removes expired idempotency keys and nonces, old deliveries and notifications, what is left of deleted flows; with a
retention, what is older."""

from collections import Counter
from typing import Final

from orchestrator.core.facts import Swept
from orchestrator.engine.sweeps import retention
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_REST_S: Final = 3600.0


class Tidy:
    """One page of each kind per call."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._removed: Counter[str] = Counter()
        self._passed = retention.Passed()

    def duty(self) -> Duty:
        """Once an hour."""
        return Duty("tidy", Scope.CLUSTER, _REST_S, self.sweep)

    def sweep(self) -> Swept:
        ledger, settings = self._state.runtime().ledger, self._state.settings
        ttl = settings.retention
        removed = Counter(
            keys=retention.keys(ledger),
            runs=0 if ttl is None else retention.runs(ledger, ttl, passed=self._passed),
            ticks=0 if ttl is None else retention.ticks(ledger, ttl),
            operations=0 if ttl is None else retention.ended_operations(ledger, ttl),
            counts=0 if ttl is None else retention.counts(ledger, ttl),
            deliveries=retention.deliveries(ledger, settings.webhook_retention),
            notifications=retention.notifications(ledger, settings.notification_retention),
        )
        self._removed.update(removed)
        if removed.total() or not self._passed.all:
            return Swept(removed.total(), more=True)
        if self._removed.total():
            log.info("ledger.tidied", extra=dict(self._removed))
            self._removed.clear()
        retention.forgotten_flows(ledger)
        return Swept()
