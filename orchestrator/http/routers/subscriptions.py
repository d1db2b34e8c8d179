"""Subscriptions, and what they are told. The routes that answer with a secret take no `Idempotency-Key`: the answer is
kept nowhere."""

from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from orchestrator.client.groups.subscriptions import SubscriptionCounts, SubscriptionMade, SubscriptionShown
from orchestrator.core.subscriptions import OVERLAP, Address, Include, Kind, NotificationState, Types
from orchestrator.core.webhook_triggers import SecretReference
from orchestrator.engine.subscriptions import manage
from orchestrator.http.caller import TheActor, TheClient
from orchestrator.http.models import Flag, Strict
from orchestrator.http.paging import Cursor, Limit, Page, after_id, page
from orchestrator.http.parameters import span
from orchestrator.http.routes import router as make
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import NotificationRow, WholeNotification

router = make("subscriptions")

Name = Annotated[str, Path(alias="subscription", max_length=100, description="A subscription's name, or its id.")]
Notification = Annotated[str, Path(max_length=40, description="A notification's id, or the last characters of it.")]
Query_ = Annotated[str, Field(max_length=2000, description="Of which runs; empty: of all.")]
_EXAMPLE: Final[JsonDict] = {
    "name": "crm",
    "address": "https://crm.example.com/hook",
    "types": ["run.succeeded", "run.failed"],
    "q": "flow:bill -tag:test",
}


class NewSubscription(Strict):
    """Whom to tell what, of which runs. `address`: a URL, an e-mail address, or a reference to one (`env:NAME`).
    Without a reference to a secret one is made, for JSON."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Annotated[str, Field(max_length=100)]
    kind: Kind = "json"
    address: Address
    types: Types
    q: Query_ = ""
    include: Include = ()
    secret: SecretReference | None = None


class ChangedSubscription(Strict):
    """What is to be another way; what is left out stays."""

    address: Address | None = None
    types: Types | None = None
    q: Query_ | None = None
    include: Include | None = None
    enabled: Flag | None = None


class NewSecret(Strict):
    """A reference to it, else one is made; and how long the one before signs as well."""

    secret: SecretReference | None = None
    overlap: Annotated[str, Field(max_length=40)] | None = None


class Sent(BaseModel):
    """A notification that is sent now."""

    model_config = ConfigDict(frozen=True)

    id: UUID


class Redriven(BaseModel):
    """Those that are sent again."""

    model_config = ConfigDict(frozen=True)

    ids: Sequence[UUID]


@router.get("/subscriptions")
def subscription_ls(client: TheClient) -> Page[SubscriptionShown]:
    """Who is told what, and how their endpoints do."""
    return Page(items=client.subscriptions.listed())


@router.post("/subscriptions", status_code=201)
def subscription_create(client: TheClient, actor: TheActor, new: NewSubscription) -> SubscriptionMade:
    """Tell somebody what happens from now on. A secret that is made is shown this once."""
    wanted = manage.wanted_of(**new.model_dump(exclude={"name"}))
    return client.subscriptions.create(new.name, wanted, by=actor)


@router.get("/subscriptions/{subscription}")
def subscription_show(client: TheClient, name: Name) -> SubscriptionCounts:
    """One subscription, and how what it was told in a day stands."""
    return client.subscriptions.get(name)


@router.patch("/subscriptions/{subscription}")
def subscription_update(
    client: TheClient, actor: TheActor, name: Name, changed: ChangedSubscription
) -> SubscriptionShown:
    """Change what it says, or turn it on or off. Enabled again, it is told what happens from then on."""
    changes = changed.model_dump(exclude={"enabled"}, exclude_none=True)
    return client.subscriptions.update(name, changes, enabled=changed.enabled, by=actor)


@router.post("/subscriptions/{subscription}/rotate", status_code=201)
def subscription_rotate(
    client: TheClient, actor: TheActor, name: Name, how: NewSecret | None = None
) -> SubscriptionMade:
    """Give it another secret; the one before signs as well for a while. One that is made is shown this once."""
    how = how or NewSecret()
    overlap = OVERLAP if how.overlap is None else span("overlap", how.overlap)
    return client.subscriptions.rotate(name, secret=how.secret, overlap=overlap, by=actor)


@router.delete("/subscriptions/{subscription}")
def subscription_delete(
    client: TheClient,
    actor: TheActor,
    name: Name,
    reason: Annotated[str | None, Query(max_length=2000, description="Why, for the audit.")] = None,
) -> SubscriptionShown:
    """Tell it nothing more, and forget what it was told. The answer has it as it was."""
    return client.subscriptions.delete(name, reason=reason, by=actor)


@router.post("/subscriptions/{subscription}/test", status_code=202)
def subscription_test(client: TheClient, actor: TheActor, name: Name) -> Sent:
    """Send it a notification that says that it is a test."""
    return Sent(id=client.subscriptions.test(name, by=actor))


@router.post("/subscriptions/{subscription}/redrive", status_code=202)
def subscription_redrive(client: TheClient, actor: TheActor, name: Name) -> Redriven:
    """Send its dead notifications again, the oldest thousand, now, with the ids that they had."""
    return Redriven(ids=client.subscriptions.redrive(name, by=actor))


@router.get("/notifications")
def notification_ls(
    request: Request,
    response: Response,
    client: TheClient,
    subscription: Annotated[str | None, Query(max_length=100, description="Only of this subscription.")] = None,
    state: Annotated[NotificationState | None, Query(description="Only those that stand so.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[NotificationRow]:
    """What was, is and will be sent, newest first."""
    rows = client.call(reads.notifications.page, subscription, state, after_id(request, cursor), limit + 1)
    return page(request, response, rows, limit, lambda row: str(row.id))


@router.get("/notifications/{notification}")
def notification_show(
    client: TheClient,
    notification: Notification,
) -> WholeNotification:
    """One notification: what it says, and each attempt to send it."""
    return client.notifications.get(notification)


@router.post("/notifications/{notification}/redrive", status_code=202)
def notification_redrive(client: TheClient, actor: TheActor, notification: Notification) -> Sent:
    """Send a dead notification again, now, with the id that it had."""
    return Sent(id=client.notifications.redrive(notification, by=actor))
