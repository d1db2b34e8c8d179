"""What runs that a run called wait for: whoever sends something to the one may mean another."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.errors import ManifestUnreadable
from orchestrator.ledger import subflows
from orchestrator.ledger.tx import Ledger

_MOST: Final = 1_000
"""Runs that are looked at."""


def waits_for(ledger: Ledger, tx: Connection, run_id: UUID, name: str, *, answers: bool) -> Row[Any] | None:
    """The nearest open run below this one with a step that waits for that signal, or asks for that answer."""
    rows = subflows.open_below(tx, run_id, _MOST)
    return next((row for row in rows if _awaits(ledger, row.manifest_hash, name, answers=answers)), None)


def _awaits(ledger: Ledger, manifest_hash: str, name: str, *, answers: bool) -> bool:
    try:
        expected = ledger.plan(manifest_hash).expected(name)
    except ManifestUnreadable:  # a newer release knows
        return False
    return any(one.wait.approval is not None or not answers for one in expected)


def named(child: Row[Any]) -> str:
    """For people."""
    return f"run {child.id} of flow {child.flow}, which was called below it,"
