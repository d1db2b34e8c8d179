"""What was, is and will be sent to subscriptions."""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from orchestrator.core.subscriptions import NotificationState
from orchestrator.errors import NotificationNotFound
from orchestrator.ledger.endings import digits_of
from orchestrator.ledger.reads.rows import NotificationCount, NotificationRow, NotificationTry, WholeNotification
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.tx import Ledger


def page(
    ledger: Ledger,
    subscription: str | None = None,
    state: NotificationState | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[NotificationRow]:
    """Those of a subscription, or of all, newest first."""
    with ledger.auto() as tx:
        name = "notifications" if subscription is None else "notifications_of"
        of = {} if subscription is None else {"subscription": subscription}
        rows = run(tx, name, **of, state=state, before=before, limit=limit)
        return [NotificationRow(**_facts(row)) for row in rows]


def get(ledger: Ledger, id: UUID) -> WholeNotification:
    """
    Raises:
        NotificationNotFound: there is none.
    """
    with ledger.auto() as tx:
        row = one(tx, "notification", id=id)
        tries = [NotificationTry(*tuple(found)) for found in run(tx, "notification_attempts", id=id)]
    if row is None:
        raise _none(str(id))
    return WholeNotification(**_facts(row), attempts=tries)


def named(ledger: Ledger, text: str) -> UUID:
    """A notification by its id, or by the last characters of it.

    Raises:
        NotificationNotFound: there is none, or more than one.
    """
    with suppress(ValueError):
        return UUID(text.removeprefix("msg_"))
    digits = digits_of(text)
    if digits is None:
        raise _none(text)
    with ledger.auto() as tx:
        found: list[UUID] = [row.id for row in run(tx, "notifications_ending", ending=digits)]
    if len(found) != 1:
        raise _none(text)
    return found[0]


def counts(ledger: Ledger, subscription_id: UUID, span: timedelta) -> dict[NotificationState, NotificationCount]:
    """How many of a subscription that were made in the last `span` stand how; states without any are left out."""
    with ledger.auto() as tx:
        rows = run(tx, "notification_counts", id=subscription_id, span=span)
        return {NotificationState(row.state): NotificationCount(row.n, row.at_first) for row in rows}


def _facts(row: Row[Any]) -> dict[str, Any]:
    return {**row._mapping, "state": NotificationState(row.state)}


def _none(text: str) -> NotificationNotFound:
    return NotificationNotFound(
        f"There is no notification {text[:40]!r}, or more than one. Fix: see `orchestrator notification ls`.", id=text
    )
