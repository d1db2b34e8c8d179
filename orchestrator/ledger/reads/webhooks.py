"""Webhooks and what came by them."""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from orchestrator.errors import WebhookNotFound
from orchestrator.ledger.endings import digits_of
from orchestrator.ledger.reads.rows import DeliveryCount, DeliveryRow, WebhookRow, WholeDelivery
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.tx import Ledger


def every(ledger: Ledger, span: timedelta) -> list[WebhookRow]:
    """Every webhook, with what came in the last `span`."""
    with ledger.auto() as tx:
        rows = run(tx, "webhooks", span=span).all()
    return [_webhook(ledger, row) for row in rows]


def _webhook(ledger: Ledger, row: Row[Any]) -> WebhookRow:
    trigger = ledger.manifest(row.manifest_hash).webhooks.get(row.slug)
    scheme, mode = (None, None) if trigger is None else (trigger.scheme, trigger.mode)
    return WebhookRow(row.slug, row.flow, scheme, mode, row.enabled, row.accepted, row.refused, row.last_at)


def recent(
    ledger: Ledger, slug: str | None = None, outcome: str | None = None, before: UUID | None = None, limit: int = 50
) -> list[DeliveryRow]:
    """What came, newest first."""
    with ledger.auto() as tx:
        rows = run(tx, "deliveries", slug=slug, outcome=outcome, before=before, limit=limit).all()
    return [DeliveryRow(*tuple(row)) for row in rows]


def counts(ledger: Ledger, span: timedelta, slug: str | None = None) -> list[DeliveryCount]:
    """How many came in the last `span`, by slug, outcome and gate."""
    with ledger.auto() as tx:
        return [DeliveryCount(*tuple(row)) for row in run(tx, "delivery_counts", span=span, slug=slug)]


def get(ledger: Ledger, id: UUID) -> WholeDelivery:
    """
    Raises:
        WebhookNotFound: no such delivery.
    """
    with ledger.auto() as tx:
        row = one(tx, "delivery", id=id)
    if row is None:
        raise WebhookNotFound(f"There is no delivery {id}. Fix: see `orchestrator webhook recent`.", id=str(id))
    return WholeDelivery(*tuple(row))


def named(ledger: Ledger, text: str) -> UUID:
    """A delivery by its id, or by the last characters of it.

    Raises:
        WebhookNotFound: none ends like this, or several do.
    """
    with suppress(ValueError):
        return UUID(text)
    found: list[UUID] = []
    if (digits := digits_of(text)) is not None:
        with ledger.auto() as tx:
            found = [row.id for row in run(tx, "deliveries_ending", ending=digits)]
    if len(found) == 1:
        return found[0]
    many = "Several deliveries end" if found else "No delivery ends"
    raise WebhookNotFound(f"{many} with {text!r:.60}. Fix: see `orchestrator webhook recent`.", id=text)
