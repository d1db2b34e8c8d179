"""Accepting triggers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.planner import Plan, seconds
from orchestrator.core.schedule_ids import flow_id
from orchestrator.ledger.rows import hot, one, run

REFUSALS = timedelta(hours=1)
"""Refusals of a flow within this time are one event."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A trigger with the id its run will have. `body` and `headers` are JSON text."""

    id: UUID
    body: str
    key: str | None
    digest: str | None
    tags: tuple[str, ...]
    trigger: str
    headers: str | None
    scheduled_for: datetime | None = None
    schedule: str | None = None
    given: str = ""
    """The body without the defaults."""

    def as_json(self) -> str:
        """An element of the start statement's `requests`; the body is pasted in, not parsed again."""
        facts: dict[str, Any] = {
            "id": str(self.id),
            "key": self.key,
            "digest": self.digest,
            "tags": list(self.tags),
            "trigger": self.trigger,
        }
        if self.scheduled_for is not None:
            facts |= {"scheduled": self.scheduled_for.isoformat(), "schedule": self.schedule}
        head = json.dumps(facts)[:-1]
        return f'{head}, "body": {self.body}, "headers": {self.headers or "null"}}}'


def start(tx: Connection, flow: str, plan: Plan, new: Sequence[NewRun], ttl: timedelta, *, pinned: bool) -> set[UUID]:
    """Insert the runs; the ids of those that were created. None, when the plan is not current and not `pinned`."""
    rows = hot(
        tx,
        "start",
        flow=flow,
        hash=plan.manifest.hash,
        pinned=pinned,
        requests=f"[{', '.join(each.as_json() for each in new)}]",
        rows=plan.rows,
        sinks=plan.sinks,
        ttl=ttl,
        deadline=seconds(plan.manifest.deadline),
    )
    return {row.id for row in rows if row.id is not None}


def definition(tx: Connection, flow: str) -> Row[Any] | None:
    """Hash and switch of a flow."""
    return one(tx, "definition", flow=flow)


def holders(tx: Connection, flow: str, keys: Sequence[str]) -> dict[str, tuple[UUID, str]]:
    """Run id and request hash by idempotency key."""
    rows = run(tx, "keys", flow=flow, keys=list(keys))
    return {row.key: (row.run_id, row.request_hash) for row in rows}


def first_requests(tx: Connection, flow: str, keys: Sequence[str]) -> dict[str, Row[Any]]:
    """By idempotency key: the run that holds it, its request hash, manifest hash and body (JSON text)."""
    return {row.key: row for row in run(tx, "first_requests", flow=flow, keys=list(keys))}


def rejected(tx: Connection, flow: str) -> None:
    """Record that a disabled flow refused a trigger."""
    run(tx, "rejected", id=flow_id(flow), flow=flow, span=REFUSALS)
