"""What is sent to subscriptions: the feed that it is made from, claims, attempts, endpoints."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.subscriptions import BREAK, BREAKER, SIDE_BY_SIDE, Kind, NotificationState
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.stream import Snapshot, Told

# ---- the feed ----


@dataclass(frozen=True, slots=True)
class Place:
    """How far the feed is: all that had ended at `seen` was told; with `until`, what ended from there to that is on the
    way, up to the transaction `tx` and its event `event_id`."""

    seen: Snapshot
    until: Snapshot | None = None
    tx: int = 0
    event_id: int = 0


@dataclass(frozen=True, slots=True)
class NewNotification:
    """What is to be sent. `data` is JSON."""

    id: UUID
    subscription_id: UUID
    event_id: int | None
    run_id: UUID | None
    type: str
    at: datetime
    data: JsonValue


def anybody(tx: Connection) -> bool:
    """Whether there is a subscription."""
    row = one(tx, "any_subscription")
    return row is not None and bool(row.found)


def hold_feed(tx: Connection) -> None:
    """Nobody moves the feed until the end of the transaction. There is one then."""
    run(tx, "begin_feed", seen=snapshot(tx).text())
    run(tx, "hold_feed")


def restart_feed(tx: Connection) -> None:
    """It begins with what has not ended now."""
    run(tx, "restart_feed", seen=snapshot(tx).text())


def take_feed(tx: Connection) -> Place | None:
    """Where it is, for the caller alone; None where somebody else has it."""
    row = one(tx, "take_feed")
    if row is None:
        return None
    until = None if row.until is None else Snapshot.parse(row.until)
    return Place(Snapshot.parse(row.seen), until, row.tx or 0, row.event_id or 0)


def move_feed(tx: Connection, place: Place) -> None:
    """It is there now."""
    until = None if place.until is None else place.until.text()
    run(tx, "move_feed", seen=place.seen.text(), until=until, tx=place.tx, event_id=place.event_id)


def snapshot(tx: Connection) -> Snapshot:
    """The transactions of this moment, for a place that is committed by this very one: what had ended after it began
    is left for later, as its numbers may come again after a crash."""
    row = run(tx, "own_snapshot").one()
    return Snapshot.parse(row.found).up_to(row.own)


def heard(tx: Connection, place: tuple[int, int], until: Snapshot, types: Collection[str], limit: int) -> list[Told]:
    """A page of events of those types, as `stream.since` gives them. What happened to no run is left out."""
    found = run(
        tx,
        "heard",
        tx=place[0],
        after=place[1],
        high=until.high,
        open=sorted(until.open),
        types=sorted(types),
        limit=limit,
    )
    return [Told(*tuple(row)) for row in found]


def heard_by(tx: Connection, ended: Collection[int], types: Collection[str]) -> list[Told]:
    """Events of those transactions, and of those types."""
    if not ended:
        return []
    return [Told(*tuple(row)) for row in run(tx, "heard_by", ended=sorted(ended), types=sorted(types))]


def errors_of(tx: Connection, run_ids: Collection[UUID]) -> dict[UUID, Mapping[str, JsonValue]]:
    """Why runs failed; those that have no error are left out."""
    if not run_ids:
        return {}
    return {row.id: row.error for row in run(tx, "errors_of", run_ids=list(run_ids)) if isinstance(row.error, dict)}


def add(tx: Connection, new: Sequence[NewNotification], give_up: timedelta) -> int:
    """Write what is to be sent; how many were not there."""
    if not new:
        return 0
    facts = [{name: getattr(each, name) for name in NewNotification.__slots__} for each in new]
    return run(tx, "add_notifications", rows=json.dumps(facts, default=str), give_up=give_up).rowcount


# ---- sending ----


@dataclass(frozen=True, slots=True)
class Claimed:
    """What this process is to send; `claim` is the number of the attempt, quoted when it is over."""

    id: UUID
    claim: int
    tries: int
    type: str
    at: datetime
    run_id: UUID | None
    data: Any
    give_up_at: datetime
    subscription_id: UUID
    name: str
    kind: Kind
    address: str
    include: Sequence[str]
    secret: str | None
    fingerprint: str | None
    previous_secret: str | None
    previous_fingerprint: str | None
    overlaps: bool
    """Whether the secret before signs as well."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of an attempt. `state` pending: it is tried again after `pause`."""

    state: NotificationState
    duration_ms: int
    status: int | None = None
    error: str | None = None
    pause: timedelta = field(default=timedelta(0))


def claim(tx: Connection, limit: int, lease: timedelta) -> list[Claimed]:
    """What is due, at most that much; for so long nobody else gets it."""
    rows = run(tx, "claim_notifications", breaker=BREAKER, side_by_side=SIDE_BY_SIDE, limit=limit, lease=lease)
    return [Claimed(*tuple(row)) for row in rows]


def end(tx: Connection, claimed: Claimed, tried: Tried) -> NotificationState | None:
    """Write down what came of an attempt; None where the claim was over, and somebody else has it."""
    run(
        tx,
        "add_notification_attempt",
        id=claimed.id,
        claim=claimed.claim,
        duration_ms=tried.duration_ms,
        status=tried.status,
        error=tried.error,
    )
    row = one(
        tx,
        "end_notification",
        id=claimed.id,
        claim=claimed.claim,
        state=tried.state,
        pause=tried.pause,
        status=tried.status,
        error=tried.error,
    )
    return None if row is None else NotificationState(row.state)


def endpoint_answered(tx: Connection, address: str) -> None:
    """Its breaker is closed."""
    run(tx, "endpoint_answered", address=address)


def endpoint_failed(tx: Connection, address: str) -> bool:
    """Whether its breaker is open then."""
    row = one(tx, "endpoint_failed", address=address, breaker=BREAKER, rest=BREAK)
    return row is not None and bool(row.opened)


def endpoint_unasked(tx: Connection, address: str) -> None:
    """It was not asked after all: another one may try it."""
    run(tx, "endpoint_unasked", address=address, breaker=BREAKER)


# ---- people ----


def redrive(
    tx: Connection, ids: Sequence[UUID] | None, subscription_id: UUID | None, give_up: timedelta, limit: int
) -> list[UUID]:
    """Send again what is dead: these, or what a subscription has."""
    rows = run(
        tx,
        "redrive",
        ids=None if ids is None else list(ids),
        subscription_id=subscription_id,
        give_up=give_up,
        limit=limit,
    )
    return [row.id for row in rows]


# ---- clearing up ----


def bury(tx: Connection, page: int) -> int:
    """Give up those that were not delivered in time; how many."""
    return _removed(tx, "bury_notifications", page=page)


def drop(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove those that are over and were made `ttl` ago, and those of subscriptions that are gone; how many."""
    return _removed(tx, "drop_notifications", ttl=ttl, page=page) or _removed(tx, "drop_orphans", page=page)


def drop_of(tx: Connection, run_id: UUID) -> None:
    """Remove what subscriptions were told, or are to be told, of a run."""
    run(tx, "drop_notifications_of", run_id=run_id)


def _removed(tx: Connection, name: str, **parameters: Any) -> int:
    row = one(tx, name, **parameters)
    return int(row.removed) if row else 0
