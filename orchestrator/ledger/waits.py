"""Statements for steps that wait for a time."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.states import StepEvent, sources
from orchestrator.ledger.rows import one


def park(tx: Connection, run_id: UUID, step_key: str, until: timedelta | datetime) -> bool:
    """BLOCKED to WAITING for this long, or until then; False when that is past, and the step has succeeded."""
    at, delay = (until, None) if isinstance(until, datetime) else (None, until)
    states = sources(StepEvent.PARK)
    row = one(tx, "park_wait", run_id=run_id, step_key=step_key, at=at, delay=delay, from_states=states)
    assert row is not None
    return row.wake_at is not None


def end(tx: Connection, run_id: UUID, step_key: str) -> None:
    """WAITING to SUCCEEDED. The caller knows that its time has come."""
    row = one(tx, "end_wait", run_id=run_id, step_key=step_key)
    assert row is not None
