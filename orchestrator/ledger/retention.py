"""Removing what nobody asks for any more, a page at a time."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.schedule_ids import flow_id, schedule_id
from orchestrator.ledger import definitions, graph
from orchestrator.ledger.rows import one, run

FIRST: Final = UUID(int=0)
WINDOW: Final = 5000
"""So many old runs are looked at in a statement, those that stay included."""


def drop_keys(tx: Connection, page: int) -> int:
    """Remove idempotency keys that expired; how many."""
    row = one(tx, "drop_keys", page=page)
    return int(row.removed) if row else 0


def drop_ticks(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove ticks without a run that were decided `ttl` ago; how many."""
    row = one(tx, "drop_ticks", ttl=ttl, page=page)
    return int(row.removed) if row else 0


def drop_own_events(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove events of schedules and flows that are `ttl` old; how many."""
    ids = [schedule_id(row.flow, row.trigger_key) for row in run(tx, "schedule_names")]
    ids += [flow_id(flow) for flow in definitions.names_ever(tx)]
    row = one(tx, "drop_own_events", ids=ids, ttl=ttl, page=page) if ids else None
    return int(row.removed) if row else 0


def drop_stray_events(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove events of flows that earlier releases wrote under ids of no run and that are `ttl` old; how many."""
    row = one(tx, "drop_stray_events", ttl=ttl, page=page)
    return int(row.removed) if row else 0


def drop_runs(tx: Connection, ttl: timedelta, begin: UUID, page: int, steps: int) -> tuple[int, UUID]:
    """Remove runs that ended `ttl` ago, with all that belongs to them, among the next `WINDOW` behind `begin`: how
    many, and where to begin the next time: with the `FIRST` one again when none is behind these."""
    graph.take_time(tx)
    row = one(tx, "drop_runs", ttl=ttl, begin=begin, window=WINDOW, page=page, rows=steps)
    assert row is not None
    return row.removed, row.begin or FIRST


def drop_run(tx: Connection, run_id: UUID, flow: str, by: str, reason: str | None) -> bool:
    """Remove one run that ended, with all that belongs to it; False when it is open or gone, or the run that called it
    does not know its end."""
    graph.take_time(tx)
    return one(tx, "drop_run", run_id=run_id, event_id=flow_id(flow), by=by, reason=reason) is not None
