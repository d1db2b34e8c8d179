"""All attempts and outputs of a run, a page at a time."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.ledger import outputs as kept
from orchestrator.ledger.reads.rows import AttemptRow
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


def attempts(tx: Connection, run_id: UUID, after: tuple[str, int], limit: int) -> list[tuple[str, AttemptRow]]:
    """Those that ended, by step and number, from the one after `after`."""
    rows = run(tx, "exported_attempts", run_id=run_id, step_key=after[0], attempt=after[1], limit=limit)
    return [(row.step_key, AttemptRow(*tuple(row)[1:])) for row in rows]


def outputs(
    ledger: Ledger, tx: Connection, run_id: UUID, after: str, limit: int
) -> list[tuple[str, Callable[[], JsonValue]]]:
    """By step, from the one after `after`: its key, and what reads the output, wherever that is."""
    rows = run(tx, "exported_outputs", run_id=run_id, step_key=after, limit=limit).all()
    return [(row.step_key, partial(kept.whole, ledger, row)) for row in rows]
