"""Removes from the payload store what runs left there that were removed from the ledger."""

from typing import Final

from orchestrator.core.facts import Swept
from orchestrator.engine import payloads
from orchestrator.errors import PayloadUnavailable
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.duty import Duty, Scope
from orchestrator.workers.state import WorkerState

_REST_S: Final = 600.0
_PAGE_S: Final = 1800.0
"""A slow store takes its time for each object of a hundred runs."""


def duty(state: WorkerState) -> Duty:
    """Every ten minutes."""

    def sweep() -> Swept:
        ledger = state.runtime().ledger
        try:
            removed = payloads.sweep(ledger) if ledger.payloads else 0
        except PayloadUnavailable as exc:
            log.warning("payload.store_away", extra={"doing": "remove payloads", "error": exc.message})
            return Swept()
        if removed:
            log.info("payload.removed", extra={"runs": removed})
        return Swept(removed, more=removed == payloads.PAGE)

    return Duty("stored", Scope.CLUSTER, _REST_S, sweep, page_s=_PAGE_S)
