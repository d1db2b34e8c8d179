"""When a run is stopped, so are the runs that its steps wait for: by whoever stopped it, and by keepers.

Each is stopped in a transaction of its own, which holds nothing else; theirs are stopped in the same way.
"""

from contextlib import suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Row

from orchestrator.core.facts import Swept
from orchestrator.core.happened import Operated
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.errors import Conflict, NotFound
from orchestrator.ledger import subflows
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify

PAGE: Final = 100


def stop_children(ledger: Ledger, parent: UUID | None, grace: timedelta) -> Swept:
    """A page of the runs that steps of halted runs wait for: of this parent, or of all."""
    with ledger.auto() as tx:
        rows = subflows.to_stop(tx, parent, PAGE)
    for row in rows:
        _stop(ledger, row, grace)
    return Swept(len(rows), more=len(rows) == PAGE)


def _stop(ledger: Ledger, row: Row[object], grace: timedelta) -> None:
    error = row.error or {}
    what = "was cancelled" if row.halt == RunStatus.CANCELLED else "passed its deadline"
    reason = f"run {row.parent}, which called it, {what}"
    if row.halt == RunStatus.CANCELLED:
        reason += f": {error.get('message')}"
    with suppress(Conflict, NotFound):  # it has ended by itself
        _cancel(ledger, row.id, by=error.get("by"), reason=reason, grace=grace)


def cancel(ledger: Ledger, run_id: UUID, *, by: str | None, reason: str, grace: timedelta) -> RunStatus:
    """As `cancel_run.cancel`, and what the run's steps wait for, and so on downwards."""
    status = _cancel(ledger, run_id, by=by, reason=reason, grace=grace)
    notify(Operated("cancel"))
    return status


def _cancel(ledger: Ledger, run_id: UUID, *, by: str | None, reason: str, grace: timedelta) -> RunStatus:
    status = cancel_run.cancel(ledger, run_id, by=by, reason=reason, grace=grace)
    stop_below(ledger, run_id, grace)
    return status


def stop_below(ledger: Ledger, run_id: UUID, grace: timedelta) -> None:
    """Stop what the steps of a run wait for that was stopped, and so on downwards."""
    while stop_children(ledger, run_id, grace).more:
        pass
