"""API keys over HTTP. The routes that answer with a key take no `Idempotency-Key`: the answer is kept nowhere."""

from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from orchestrator.client.groups.keys import KeyMade, KeyShown
from orchestrator.core.access import Grant, Role, Scope
from orchestrator.engine.access.keys import NEVER, OVERLAP
from orchestrator.http.caller import TheActor, TheClient
from orchestrator.http.models import Strict, Why
from orchestrator.http.paging import Page
from orchestrator.http.parameters import length
from orchestrator.http.routes import router as make
from orchestrator.ledger.access import Expiry

router = make("keys")

Wanted = Annotated[str, Path(max_length=100, description="The id of a key, or its name.")]
Text = Annotated[str, Field(max_length=100)]


class NewKey(Strict):
    """A key to make. Without scopes: all that the role may; without flows: in every flow."""

    name: Text
    role: Role = Role.VIEWER
    scopes: list[Scope] = Field(default_factory=list, fail_fast=True, max_length=20)
    flows: list[Text] = Field(default_factory=list, fail_fast=True, max_length=100)
    expires: (
        Annotated[str, Field(max_length=40, description="90d, or 2027-01-01T00:00:00Z; without: never.")] | None
    ) = None


class Rotation(Strict):
    """How long the key before works on, and when the new one ends."""

    overlap: Annotated[str, Field(max_length=40)] = "1d"
    expires: Annotated[str, Field(max_length=40)] | None = None


@router.get("/keys")
def key_ls(
    client: TheClient, ended: Annotated[bool, Query(description="Also those that do not work any more.")] = False
) -> Page[KeyShown]:
    """API keys: what they may do, when they end, when they were used last."""
    return Page(items=client.keys.listed(ended=ended))


@router.post("/keys", status_code=201)
def key_create(client: TheClient, actor: TheActor, new: NewKey) -> KeyMade:
    """Make a key. It is shown this once."""
    grant = Grant(new.role, frozenset(new.scopes), frozenset(new.flows))
    return client.keys.create(new.name, grant, expires=_expiry(new.expires) or NEVER, by=actor)


@router.post("/keys/{key}/rotate", status_code=201)
def key_rotate(key: Wanted, client: TheClient, actor: TheActor, how: Rotation | None = None) -> KeyMade:
    """Make a key like that one; it works on for a while."""
    how = how or Rotation()
    overlap = _expiry(how.overlap, "overlap")
    after = overlap.after if overlap is not None else None
    return client.keys.rotate(key, overlap=OVERLAP if after is None else after, expires=_expiry(how.expires), by=actor)


@router.post("/keys/{key}/revoke")
def key_revoke(key: Wanted, client: TheClient, actor: TheActor, why: Why | None = None) -> Page[KeyShown]:
    """End a key by its id, or every key of a name, everywhere within five seconds. The answer has those that ended, as
    they were."""
    return Page(items=client.keys.revoke(key, reason=why.reason if why else None, by=actor))


def _expiry(given: str | None, name: str = "expires") -> Expiry | None:
    at = length(name, given)
    if at is None:
        return None
    return Expiry(at=at) if isinstance(at, datetime) else Expiry(after=at)
