"""Dispatch rows as an outbox: what should be in the broker, and what may have been lost there."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch
from orchestrator.ledger.rows import dispatches, run


def outstanding(tx: Connection) -> dict[tuple[str, int], int]:
    """Ready steps by queue and priority."""
    return {(row.queue, row.priority): row.ready for row in run(tx, "outstanding")}


def lost(
    tx: Connection,
    queue: str,
    priorities: Sequence[int],
    missing: int,
    *,
    after: timedelta,
    unpublished_after: timedelta,
    worker_ttl: timedelta,
) -> tuple[Dispatch, ...]:
    """The oldest dispatches of a list whose message is suspected lost, noted as published again."""
    rows = run(
        tx,
        "lost",
        queue=queue,
        priorities=list(priorities),
        missing=missing,
        after=after,
        unpublished_after=unpublished_after,
        worker_ttl=worker_ttl,
    )
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
