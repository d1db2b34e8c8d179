"""Webhooks: slugs, nonces, deliveries."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.ledger.rows import one, run


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """Whose slug it is. `now` is the ledger's clock."""

    slug: str
    flow: str
    manifest_hash: str
    enabled: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class RawDelivery:
    """A delivery as it came; `raw` is None where it was not refused, was replayed, or stands for a flood."""

    slug: str
    received_at: datetime
    count: int
    replayed_at: datetime | None
    raw: bytes | None = field(repr=False)


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


def open_runs_with(tx: Connection, flow: str, wanted: Sequence[str]) -> list[UUID]:
    """At most two open runs of a flow that have one of these search attributes, given as JSON objects."""
    return [row.id for row in run(tx, "open_runs_with", flow=flow, wanted=list(wanted))]


@dataclass(frozen=True, slots=True)
class KnownBy:
    """What a delivery is known by, of what it says (`digest`), and the run that it is to start."""

    slug: str
    keys: Sequence[str]
    digest: str
    delivery_id: UUID
    run_id: UUID | None


def take_nonces(tx: Connection, known: KnownBy, ttl: timedelta) -> list[Nonce]:
    """Take what a delivery is known by; who has it now, in any case."""
    given = {**asdict(known), "keys": list(known.keys)}
    return [Nonce(**row._mapping) for row in run(tx, "take_nonces", **given, ttl=ttl)]


def nonces(tx: Connection, slug: str, keys: Sequence[str]) -> list[Nonce]:
    """Who has these, of those that were taken and are remembered."""
    return [Nonce(**row._mapping) for row in run(tx, "nonces", slug=slug, keys=list(keys))]


def point_nonces(tx: Connection, slug: str, keys: Sequence[str], run_id: UUID) -> None:
    """The nonces name another run."""
    run(tx, "point_nonces", slug=slug, keys=list(keys), run_id=run_id)


def keep(tx: Connection, new: NewDelivery) -> None:
    """Keep a delivery; one whose id is kept already is counted there."""
    run(tx, "keep_delivery", **{name: getattr(new, name) for name in NewDelivery.__slots__})


def raw(tx: Connection, id: UUID) -> RawDelivery | None:
    """A delivery as it came."""
    row = one(tx, "raw_delivery", id=id)
    return row and RawDelivery(*tuple(row))


def replayed(tx: Connection, id: UUID) -> bool:
    """Whether nobody else replayed it."""
    return one(tx, "replayed", id=id) is not None


def drop_nonces(tx: Connection, page: int) -> int:
    """Remove nonces that expired; how many."""
    row = one(tx, "drop_nonces", page=page)
    return int(row.removed) if row else 0


def drop_deliveries(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove deliveries that came `ttl` ago; how many."""
    row = one(tx, "drop_deliveries", ttl=ttl, page=page)
    return int(row.removed) if row else 0
