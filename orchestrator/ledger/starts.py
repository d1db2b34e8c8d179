"""Accepting triggers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.facts import StartRequest
from orchestrator.core.headers import kept_json
from orchestrator.core.inputs import Input
from orchestrator.core.plan import Plan, seconds
from orchestrator.core.schedule_ids import flow_id
from orchestrator.core.search import Scalar
from orchestrator.ledger.rows import hot, one, run

REFUSALS = timedelta(hours=1)
"""Refusals of a flow within this time are one event."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A request with the id its run will have, its checked input, its and its flow's tags, what tells it from another
    request with the same key, and its search attributes."""

    id: UUID
    request: StartRequest
    input: Input
    tags: tuple[str, ...]
    digest: str | None
    search: Mapping[str, Scalar]

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing that the plain statement does not know."""
        return self.request.key is None and self.request.begins is None

    def as_json(self) -> str:
        """An element of the start statement's `requests`. What is already JSON is pasted in, not parsed again."""
        request = self.request
        facts: dict[str, Any] = {"id": str(self.id), "tags": self.tags, "trigger": request.trigger}
        if self.search:
            facts["search"] = self.search
        if request.key is not None:
            facts |= {"key": request.key, "digest": self.digest}
        if request.schedule is not None:
            facts["schedule"] = request.schedule
        if request.scheduled_for is not None:
            facts["scheduled"] = request.scheduled_for.isoformat()
        match request.begins:
            case timedelta() as length:
                facts["begin_after"] = seconds(length)
            case datetime() as at:
                facts["begin_at"] = at.isoformat()
        headers = f', "headers": {kept_json(request.headers)}' if request.headers is not None else ""
        trace = f', "trace": {request.trace}' if request.trace is not None else ""
        return f'{json.dumps(facts)[:-1]}, "body": {self.input.text}{headers}{trace}}}'


def start(tx: Connection, plan: Plan, new: Sequence[NewRun], *, pinned: bool, closed: bool = False) -> dict[UUID, UUID]:
    """Insert the runs. For each its id and that of the run that stands for it: another one, if its key was taken.
    Nothing, when the flow is disabled, or the plan is not current and not `pinned`. Of `closed` ones nothing is
    dispatched."""
    manifest = plan.manifest
    given = {
        "flow": manifest.name,
        "hash": manifest.hash,
        "pinned": pinned,
        "requests": f"[{', '.join(each.as_json() for each in new)}]",
        "rows": plan.closed_rows if closed else plan.rows,
        "sinks": plan.sinks,
    }
    if manifest.deadline is None and all(each.is_plain for each in new):
        rows = hot(tx, "start", **given)
    else:
        rows = hot(tx, "start_keyed", **given, ttl=manifest.idempotency_ttl, deadline=seconds(manifest.deadline))
    return {row.id: row.run_id for row in rows}


def definition(tx: Connection, flow: str) -> Row[Any] | None:
    """Hash and switch of a flow."""
    return one(tx, "definition", flow=flow)


def first_requests(tx: Connection, flow: str, keys: Sequence[str]) -> dict[str, Row[Any]]:
    """By idempotency key: the run that holds it, its request hash, manifest hash and body."""
    return {row.key: row for row in run(tx, "first_requests", flow=flow, keys=list(keys))}


def rejected(tx: Connection, flow: str) -> None:
    """Record that a disabled flow refused a trigger."""
    run(tx, "rejected", id=flow_id(flow), flow=flow, span=REFUSALS)
