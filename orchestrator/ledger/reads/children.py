"""Runs that steps of a run called."""

from uuid import UUID

from orchestrator.core.states import RunStatus
from orchestrator.ledger import subflows
from orchestrator.ledger.reads import runs
from orchestrator.ledger.reads.rows import ChildRow
from orchestrator.ledger.tx import Ledger


def page(
    ledger: Ledger, run_id: UUID, step_key: str | None = None, after: UUID | None = None, limit: int = 50
) -> list[ChildRow]:
    """A page of them in the order of their starts, from the one after `after`; those of a step, or all.

    Raises:
        RunNotFound: no such run.
    """
    with ledger.auto() as tx:
        rows = subflows.children_of(tx, run_id, step_key, limit, after)
    if not rows:
        runs.status(ledger, run_id)  # is there such a run?
    return [ChildRow(row.id, row.flow, row.parent_step_key, RunStatus(row.status)) for row in rows]
