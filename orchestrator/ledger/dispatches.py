"""Dispatch rows as an outbox: what should be in the broker, and what may have been lost there."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch
from orchestrator.ledger.rows import dispatches, run

WINDOW: Final = 10_000
"""So many steps of a list are counted, or looked at, in every sweep; of a longer one the oldest."""


def outstanding(tx: Connection, most: int | None) -> dict[tuple[str, int], int]:
    """Ready steps by queue and priority; at most `most` of each are counted, or all."""
    return {(row.queue, row.priority): row.ready for row in run(tx, "outstanding", most=most)}


def outstanding_in_all(tx: Connection) -> dict[tuple[str, int], int]:
    """The same, to the last one. It reads the whole backlog and may take its time."""
    run(tx, "take_time")
    return outstanding(tx, most=None)


class Patience(NamedTuple):
    """How long a message is waited for: `after` its last publication, `unpublished_after` its commit when none is
    known. A worker that was not seen for `worker_ttl` does not count."""

    after: timedelta
    unpublished_after: timedelta
    worker_ttl: timedelta


def lost(
    tx: Connection, queue: str, priorities: Sequence[int], missing: int, patience: Patience
) -> tuple[Dispatch, ...]:
    """The oldest dispatches of a list whose message is suspected lost, noted as published again."""
    rows = run(
        tx,
        "lost",
        queue=queue,
        priorities=list(priorities),
        missing=missing,
        window=WINDOW,
        **patience._asdict(),
    )
    return dispatches(rows.all())


def wake(tx: Connection, worker_id: str, page: int, worker_ttl: timedelta) -> tuple[Dispatch, ...]:
    """Dispatches that waited for the code of a worker that has just come, noted as published again."""
    rows = run(tx, "wake", id=worker_id, page=page, window=WINDOW, worker_ttl=worker_ttl)
    return dispatches(rows.all())


def confirm(tx: Connection, published: Sequence[Dispatch]) -> None:
    """The broker took the first message of each."""
    run(
        tx,
        "confirm",
        run_ids=[each.run_id for each in published],
        step_keys=[each.step_key for each in published],
        numbers=[each.number for each in published],
    )
