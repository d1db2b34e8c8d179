"""Removing what nobody asks for any more, a page at a time."""

from datetime import timedelta

from sqlalchemy import Connection

from orchestrator.ledger import graph
from orchestrator.ledger.rows import one


def drop_keys(tx: Connection, page: int) -> int:
    """Remove idempotency keys that expired; how many."""
    row = one(tx, "drop_keys", page=page)
    return int(row.removed) if row else 0


def drop_runs(tx: Connection, ttl: timedelta, page: int, steps: int) -> int:
    """Remove runs that ended `ttl` ago, with all that belongs to them; how many."""
    graph.take_time(tx)
    row = one(tx, "drop_runs", ttl=ttl, page=page, rows=steps)
    return int(row.removed) if row else 0
