"""Statements for steps that poll. The caller holds the run row."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.states import StepEvent, sources
from orchestrator.ledger.rows import one, run

KEPT: Final = 20
"""Polls of a step whose attempts are kept."""


class Polled(NamedTuple):
    """How often the step was not ready, and when it is asked again; None: its time is over."""

    polls: int
    due_at: datetime | None


class Polling(NamedTuple):
    """How often the step was not ready so far, and since when it is asked."""

    polls: int
    started: datetime


def again(tx: Connection, run_id: UUID, step_key: str, *, every: timedelta, timeout: timedelta) -> Polled | None:
    """Count a poll; RUNNING to WAITING until the next, unless the time is over. None when it was not running."""
    states = sources(StepEvent.POLL)
    row = one(tx, "poll_again", run_id=run_id, step_key=step_key, every=every, timeout=timeout, from_states=states)
    return None if row is None else Polled(row.polls, row.due_at)


def forget(tx: Connection, run_id: UUID, step_key: str) -> None:
    """Keep the attempts of the last polls only."""
    run(tx, "forget_polls", run_id=run_id, step_key=step_key, most=KEPT)


def state(tx: Connection, run_id: UUID, step_key: str) -> Polling:
    """Of a step that is claimed."""
    row = one(tx, "polling", run_id=run_id, step_key=step_key)
    assert row is not None
    return Polling(row.polls, row.started_at)
