"""Webhooks: slugs, nonces, deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.errors import WebhookNotFound
from orchestrator.ledger.rows import one, run

ENDING: Final = 4
"""Characters that name a delivery, at least."""


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """Whose slug it is. `now` is the ledger's clock."""

    slug: str
    flow: str
    manifest_hash: str
    enabled: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class WebhookStats:
    """A slug, with what came lately."""

    slug: str
    flow: str
    manifest_hash: str
    enabled: bool
    accepted: int
    refused: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Nonce:
    """Who took it, and with what."""

    key: str
    digest: str
    delivery_id: UUID
    run_id: UUID | None


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What came, and what became of it. JSON as text."""

    id: UUID
    slug: str
    flow: str
    scheme: str
    mode: str
    outcome: str
    status: int
    size_bytes: int
    digest: str
    gate: str | None = None
    why: str | None = None
    verdicts: str = "[]"
    address: str | None = None
    headers: str = "{}"
    body: str | None = field(default=None, repr=False)
    run_id: UUID | None = None
    previous_key: bool = False
    raw: bytes | None = field(default=None, repr=False)
    replay_of: UUID | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery, as a list has it."""

    id: UUID
    slug: str
    flow: str
    received_at: datetime
    scheme: str
    mode: str
    outcome: str
    status: int
    gate: str | None
    why: str | None
    address: str | None
    size_bytes: int
    run_id: UUID | None
    previous_key: bool
    count: int
    replay_of: UUID | None
    replayed_at: datetime | None
    replayable: bool


@dataclass(frozen=True, slots=True)
class WholeDelivery(DeliveryRow):
    """With what it said, gate by gate; `raw` only of one that was refused and not replayed."""

    digest: str
    verdicts: list[dict[str, Any]]
    headers: dict[str, str]
    body: Any = field(repr=False)
    raw: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryCount:
    """How many came, of one outcome and gate."""

    slug: str
    flow: str
    outcome: str
    gate: str | None
    count: int
    last_at: datetime
    bytes: int
    previous_key: int


def claim(tx: Connection, flow: str, slugs: Sequence[str]) -> list[str]:
    """The flow, which the caller holds, has these slugs and no others; those that are another flow's."""
    run(tx, "drop_webhooks", flow=flow, slugs=list(slugs))
    if not slugs:
        return []
    ours = {row.slug for row in run(tx, "claim_webhooks", flow=flow, slugs=list(slugs))}
    return [slug for slug in slugs if slug not in ours]


def find(tx: Connection, slug: str) -> WebhookRow | None:
    """Whose slug it is."""
    row = one(tx, "webhook", slug=slug)
    return row and WebhookRow(**row._mapping)


def listed(tx: Connection, span: timedelta) -> list[WebhookStats]:
    """Every slug, with what came in the last `span`."""
    return [WebhookStats(**row._mapping) for row in run(tx, "webhooks", span=span)]


def take_nonces(
    tx: Connection, slug: str, keys: Sequence[str], digest: str, delivery_id: UUID, run_id: UUID | None, ttl: timedelta
) -> list[Nonce]:
    """Take what a delivery is known by; who has it now, in any case."""
    given = {"slug": slug, "keys": list(keys), "digest": digest, "delivery_id": delivery_id, "run_id": run_id}
    return [Nonce(**row._mapping) for row in run(tx, "take_nonces", **given, ttl=ttl)]


def point_nonces(tx: Connection, slug: str, keys: Sequence[str], run_id: UUID) -> None:
    """The nonces name another run."""
    run(tx, "point_nonces", slug=slug, keys=list(keys), run_id=run_id)


def keep(tx: Connection, new: NewDelivery) -> None:
    """Keep a delivery; one whose id is kept already is counted there."""
    run(tx, "keep_delivery", **{name: getattr(new, name) for name in NewDelivery.__slots__})


def replayed(tx: Connection, id: UUID) -> bool:
    """Whether nobody else replayed it."""
    return one(tx, "replayed", id=id) is not None


def get(tx: Connection, id: UUID) -> WholeDelivery:
    """
    Raises:
        WebhookNotFound: no such delivery.
    """
    row = one(tx, "delivery", id=id)
    if row is None:
        raise WebhookNotFound(f"There is no delivery {id}. Fix: see `orchestrator webhook recent`.", id=str(id))
    return WholeDelivery(**{each.name: row._mapping[each.name] for each in fields(WholeDelivery)})


def named(tx: Connection, text: str) -> UUID:
    """A delivery by its id, or by the last characters of it.

    Raises:
        WebhookNotFound: none ends like this, or several do.
    """
    try:
        return UUID(text)
    except ValueError:
        found = run(tx, "deliveries_ending", ending=text.lower()).all() if len(text) >= ENDING else []
    if len(found) == 1:
        return found[0].id  # type: ignore[no-any-return]
    many = "Several deliveries end" if found else "No delivery ends"
    raise WebhookNotFound(f"{many} with {text!r:.60}. Fix: see `orchestrator webhook recent`.", id=text)


def recent(
    tx: Connection, slug: str | None = None, outcome: str | None = None, before: UUID | None = None, limit: int = 50
) -> list[DeliveryRow]:
    """What came, newest first."""
    rows = run(tx, "deliveries", slug=slug, outcome=outcome, before=before, limit=limit)
    return [_delivery(row) for row in rows]


def counts(tx: Connection, span: timedelta, slug: str | None = None) -> list[DeliveryCount]:
    """How many came in the last `span`, by slug, outcome and gate."""
    return [DeliveryCount(**row._mapping) for row in run(tx, "delivery_counts", span=span, slug=slug)]


def drop_nonces(tx: Connection, page: int) -> int:
    """Remove nonces that expired; how many."""
    row = one(tx, "drop_nonces", page=page)
    return int(row.removed) if row else 0


def drop_deliveries(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove deliveries that came `ttl` ago; how many."""
    row = one(tx, "drop_deliveries", ttl=ttl, page=page)
    return int(row.removed) if row else 0


def _delivery(row: Row[Any]) -> DeliveryRow:
    return DeliveryRow(**row._mapping)
