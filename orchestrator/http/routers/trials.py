"""What was tried and found out: backups, drills, smoke tests."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, Field, JsonValue

from orchestrator.core.evidence import Kind
from orchestrator.engine.smoke import Canary
from orchestrator.http.caller import TheActor, TheClient
from orchestrator.http.models import Flag, Strict
from orchestrator.http.paging import Page
from orchestrator.http.routes import router as make
from orchestrator.ledger.evidence import Evidence, Tried

router = make("trials")


class Record(Strict):
    """Something that was tried: whether it did what it should, what was found, and when it was, if not just now."""

    kind: Kind
    ok: Flag
    facts: Mapping[str, JsonValue] = Field(default_factory=dict, max_length=100)
    at: AwareDatetime | None = None


class Smoke(Strict):
    """Through which queues a run is sent that does nothing; without any, through those that live workers serve."""

    queues: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, fail_fast=True, max_length=200)


@router.get("/evidence")
def evidence_ls(
    client: TheClient,
    kind: Kind | None = None,
    last: Annotated[int, Query(ge=1, le=100, description="So many of each kind.")] = 1,
) -> Page[Evidence]:
    """When backups, drills and smoke tests were, and how they went: the newest of each kind."""
    return Page(items=client.trials.last(kind, limit=last))


@router.post("/evidence", status_code=201)
def evidence_record(client: TheClient, actor: TheActor, tried: Record) -> Evidence:
    """Record that something was tried."""
    return client.trials.record(Tried(tried.kind, tried.ok, tried.facts, tried.at), by=actor)


@router.post("/smoke", status_code=201)
def smoke_begin(client: TheClient, actor: TheActor, asked: Smoke | None = None) -> Sequence[Canary]:
    """Start a run that does nothing through each queue. Whoever asked waits for their ends."""
    return client.trials.smoke(asked.queues if asked is not None else (), by=actor)
