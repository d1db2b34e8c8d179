"""Whether this worker or beat is ready, for probes and for systemd."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.core.durations import format_duration
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import health
from orchestrator.observe.health import Part
from orchestrator.observe.logs import log
from orchestrator.observe.probes import Probe
from orchestrator.schedules.beat import LedgerScheduler
from orchestrator.servers.diagnosis import one_line
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.state import WorkerState

_LEDGER: Final = timedelta(seconds=2)
"""So soon it must answer."""
_STARTS: Final = {"started": Part(False, "it is starting")}
_CLOCK_TURNS: Final = 3
_CLOCK_LEAST_S: Final = 2.0


class LedgerLook:
    """Looks with a connection of the process's own pool: a pool that has none left is not ready either."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._probe = Probe("health-ledger", self._look)

    def parts(self) -> Mapping[str, Part]:
        """`ledger` and `schema`."""
        answer = self._probe.wait(_LEDGER.total_seconds())
        suffices = None if answer is None else answer.found
        if suffices is None:
            late = (
                f"no answer within {format_duration(_LEDGER)}"
                if answer is None
                else "cannot be asked; the log says why"
            )
            return {"ledger": Part(False, late), "schema": Part(False, "unknown without the ledger")}
        behind = "behind this release: orchestrator db upgrade"
        return {"ledger": Part(True, "answers"), "schema": Part(suffices, "suffices" if suffices else behind)}

    def _look(self) -> bool | None:
        ledger = self._state.runtime().ledger
        try:
            return health.suffices(ledger)
        except (SQLAlchemyError, OrchestratorError) as exc:
            log.debug("health.down", extra={"check": "ledger", "error": one_line(exc)[:500]})
            return None
        finally:
            ledger.release_thread()


class WorkerHealth:
    """Of a worker's main process."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._ledger = LedgerLook(state)

    @property
    def stopping(self) -> bool:
        return self._state.stopping

    def parts(self) -> Mapping[str, Part]:
        if self._state.keeper is None:  # the pool may not be forked yet: nothing may be opened
            return _STARTS
        return {**self._ledger.parts(), "probe": self._probe()}

    def _probe(self) -> Part:
        probe = self._state.keeper.probe
        if not probe.used:
            return Part(True, "the solo pool is not probed")
        limit = 2 * self._state.settings.worker_ttl
        if probe.heard_within(limit.total_seconds()):
            return Part(True, "its messages come back")
        return Part(False, f"no message to itself came back within {format_duration(limit)}")


class KeeperHealth:
    """Of a keeper's process."""

    def __init__(self, state: WorkerState) -> None:
        self.leader: Leader | None = None
        self._state = state
        self._ledger = LedgerLook(state)

    @property
    def stopping(self) -> bool:
        return self._state.stopping

    def parts(self) -> Mapping[str, Part]:
        if self.leader is None:
            return _STARTS
        role = "leads" if self.leader.leads else "stands by"
        answered = self.leader.answered
        return {**self._ledger.parts(), "role": Part(answered, role if answered else "unknown without the ledger")}


class BeatHealth:
    """Of a beat's process. It announces ticks without the ledger, so it is not asked."""

    def __init__(self) -> None:
        self.scheduler: Any = None
        self.stopping = False

    def parts(self) -> Mapping[str, Part]:
        if self.scheduler is None:
            return _STARTS
        if not isinstance(self.scheduler, LedgerScheduler):  # chosen with `--scheduler`
            return {"started": Part(True, "runs a scheduler of your own")}
        role = {"leads": "leads", "follows": "stands by"}.get(self.scheduler.role or "")
        limit_s = max(_CLOCK_LEAST_S, _CLOCK_TURNS * float(self.scheduler.max_interval))
        still_s = self.scheduler.pulse.still_s
        return {
            "role": Part(role is not None, role or "unknown: its Redis has not answered; the log says more"),
            "clock": Part(still_s < limit_s, f"moved {still_s:.1f} s ago; {limit_s:g} s are allowed"),
        }
