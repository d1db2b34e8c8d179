"""Removes expired idempotency keys, what is left of deleted flows and, if a retention is set, what is older."""

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
        self._keys = 0
        self._runs = 0
        self._ticks = 0
        self._passed = retention.Passed()

    def duty(self) -> Duty:
        """Once an hour."""
        return Duty("tidy", Scope.CLUSTER, _REST_S, self.sweep)

    def sweep(self) -> Swept:
        ledger, ttl = self._state.runtime().ledger, self._state.settings.retention
        keys = retention.keys(ledger)
        runs = 0 if ttl is None else retention.runs(ledger, ttl, passed=self._passed)
        ticks = 0 if ttl is None else retention.ticks(ledger, ttl)
        operations = 0 if ttl is None else retention.ended_operations(ledger, ttl) + retention.counts(ledger, ttl)
        self._keys, self._runs, self._ticks = self._keys + keys, self._runs + runs, self._ticks + ticks
        if keys or runs or ticks or operations or not self._passed.all:
            return Swept(keys + runs + ticks + operations, more=True)
        if self._keys or self._runs or self._ticks:
            log.info("ledger.tidied", extra={"keys": self._keys, "runs": self._runs, "ticks": self._ticks})
            self._keys = self._runs = self._ticks = 0
        retention.forgotten_flows(ledger)
        return Swept()
