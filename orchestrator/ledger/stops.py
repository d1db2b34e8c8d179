"""Statements for loops that stop at a failure. The caller holds the run row."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.wording import STOPPED
from orchestrator.ledger.rows import one, run


class Skipped(NamedTuple):
    """Children of a loop: how many were skipped, and how many are open still."""

    skipped: int
    open: int


def stop_loop(tx: Connection, run_id: UUID, loop_key: str, reason: str) -> Skipped:
    """Skip the children of a loop that did not begin. The caller has counted the failed one on the loop's row."""
    row = one(tx, "stop_loop", run_id=run_id, loop_key=loop_key, reason=reason)
    assert row is not None
    return Skipped(row.skipped, row.children_open)


def hold_loops(tx: Connection, run_id: UUID, loop_key: str) -> None:
    """Loops inside of the items of this one let nobody in from now on."""
    run(tx, "hold_loops_inside", run_id=run_id, loop_key=loop_key)


def stop_inside(tx: Connection, run_id: UUID, loop_key: str, reason: str) -> Sequence[Row[Any]]:
    """Skip what did not begin, or waits, inside of items that were let in: its key, what it is a part of, and where it
    stood."""
    return run(tx, "stop_inside", run_id=run_id, loop_key=loop_key, reason=reason).all()


def count(tx: Connection, run_id: UUID, ended: Mapping[str, int], reason: str) -> Sequence[Row[Any]]:
    """Take so many off these items and loops; those that were under way, with what is open in them, and failed."""
    given = {"step_keys": list(ended), "ended": list(ended.values())}
    return run(tx, "count_stopped", run_id=run_id, reason=reason, **given).all() if ended else []


def stopped_by(tx: Connection, run_id: UUID, loop_keys: Sequence[str], *, retried: bool) -> tuple[str, str] | None:
    """One of these loops that stopped, and that no operator had go on since; and the item that failed."""
    row = one(tx, "stopped_by", run_id=run_id, loop_keys=list(loop_keys), retried=retried)
    return None if row is None else (row.loop_key, f"{row.loop_key}.{row.loop_index}")


def inside(tx: Connection, run_id: UUID, step_keys: Sequence[str]) -> frozenset[str]:
    """Steps inside of these items or loops that were skipped because a loop around them stopped."""
    rows = run(tx, "stopped_inside", run_id=run_id, step_keys=list(step_keys), stopped=STOPPED)
    return frozenset(row.step_key for row in rows)


def to_mend(tx: Connection, run_id: UUID, loop_key: str) -> list[str]:
    """Items of a loop that are under way, and in which something failed, or was stopped."""
    return [row.step_key for row in run(tx, "items_to_mend", run_id=run_id, loop_key=loop_key, stopped=STOPPED)]
