"""Runs that steps of a run called."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row

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
    return [_row(row) for row in rows]


def tree(ledger: Ledger, run_id: UUID, each: int, limit: int) -> dict[UUID, list[ChildRow]]:
    """What it and the runs below it called, by the run that did, the nearest ones first: at most `each` of one, and
    `limit` in all."""
    found: dict[UUID, list[ChildRow]] = {}
    with ledger.auto() as tx:
        for row in subflows.tree_of(tx, run_id, each, limit):
            found.setdefault(row.parent, []).append(_row(row))
    return found


def _row(row: Row[Any]) -> ChildRow:
    return ChildRow(row.id, row.flow, row.step, RunStatus(row.status))
