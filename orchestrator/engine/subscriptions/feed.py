"""What is to be sent, made of what happened: each event once for each subscription that it is for.

The feed goes by transactions, as the stream of events does and for the same reason: ids of events are given before
their transactions commit. How far it is stands in a row, which is moved in the commit that writes what is to be sent:
a keeper that dies leaves both or neither, and two at once take turns.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, select
from uuid_utils.compat import uuid7

from orchestrator.core import runquery
from orchestrator.core.facts import Swept
from orchestrator.core.subscriptions import events_of, type_of
from orchestrator.engine.faults import fp
from orchestrator.errors import QueryInvalid
from orchestrator.ledger import listing, notifications, subscriptions
from orchestrator.ledger.notifications import NewNotification, Place
from orchestrator.ledger.schema import flow_runs
from orchestrator.ledger.stream import Told
from orchestrator.ledger.subscriptions import SubscriptionRow
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log

PAGE: Final = 1_000
"""Events that are read in one go."""
_RUN: Final = "run."


def page(ledger: Ledger, give_up: timedelta, public_url: str | None = None, limit: int = PAGE) -> Swept:
    """Write down what is to be sent of a page of events. `public_url` is where links lead to; `changed` counts what was
    written."""

    def work(tx: Connection) -> Swept:
        place = notifications.take_feed(tx)
        if place is None:
            return Swept()
        told = [row for row in subscriptions.every(tx) if row.enabled]
        types = events_of(type for row in told for type in row.types)
        found, next_ = _heard(tx, place, types, limit)
        written = notifications.add(tx, _new(tx, told, found, public_url), give_up)
        notifications.move_feed(tx, next_)
        fp("feed.moved")
        return Swept(written, more=next_.until is not None or place.until is not None)

    return ledger.retry(work)


def _heard(tx: Connection, place: Place, types: set[str], limit: int) -> tuple[Sequence[Told], Place]:
    """A page of events, and where the feed is after it."""
    before, until = place.seen, place.until or notifications.snapshot(tx)
    if until.high < before.high:  # another server, or this one at an earlier state
        log.warning("feed.lost_place", extra={"what": "what happened meanwhile is not told to subscriptions"})
        return [], Place(until)
    if place.until is None:
        found, after = notifications.heard_by(tx, before.open - until.open, types), (before.high, 0)
    else:
        found, after = [], (place.tx, place.event_id)
    read = notifications.heard(tx, after, until, types, limit)
    if len(read) < limit:
        return found + read, Place(until)
    return found + read, Place(before, until, read[-1].tx, read[-1].id)


def _new(
    tx: Connection, told: Sequence[SubscriptionRow], found: Sequence[Told], public_url: str | None
) -> list[NewNotification]:
    """What is to be sent of these events, in their order."""
    by_type = [(event, type_of(event.type, event.facts)) for event in found]
    pairs = [
        (row, event, type)
        for row in told
        for event, type in _matching(tx, row, by_type)
        if event.at >= row.since  # what was open then may tell of what happened before
    ]
    pairs.sort(key=lambda pair: (pair[1].tx, pair[1].id))
    failed = {event.run_id for _, event, _ in pairs if event.type in {"run.failed", "run.timed_out", "run.cancelled"}}
    errors = notifications.errors_of(tx, failed)
    return [
        NewNotification(
            uuid7(),
            row.id,
            event.id,
            event.run_id,
            type,
            event.at,
            data_of(event, errors.get(event.run_id), public_url),
        )
        for row, event, type in pairs
    ]


def _matching(tx: Connection, row: SubscriptionRow, found: Iterable[tuple[Told, str]]) -> list[tuple[Told, str]]:
    """Those of the subscription's types, of runs that its query means as they are now."""
    wanted = [(event, type) for event, type in found if type in row.types]
    if not wanted or not row.q:
        return wanted
    ids = {event.run_id for event, _ in wanted}
    try:
        query = listing.matching(
            tx, select(flow_runs.c.id).where(flow_runs.c.id.in_(ids)), runquery.parse(row.q, datetime.now(UTC))
        )
    except QueryInvalid as exc:  # the flow that declared a search attribute is gone
        log.error("subscription.query_invalid", extra={"subscription": row.name, "error": exc.message})
        return []
    meant: set[UUID] = set(tx.execute(query).scalars())
    return [(event, type) for event, type in wanted if event.run_id in meant]


def data_of(event: Told, error: Mapping[str, JsonValue] | None, public_url: str | None) -> dict[str, JsonValue]:
    """What is told of an event: which run and step, what became of it, why. No inputs, no outputs; messages of errors
    have no secrets in the ledger already."""
    facts = event.facts if isinstance(event.facts, dict) else {}
    data: dict[str, JsonValue] = {
        "event_id": event.id,
        "run_id": str(event.run_id),
        "flow": event.flow,
        "status": event.type.removeprefix(_RUN) if event.type.startswith(_RUN) else None,
        "step": event.step_key,
        "attempt": event.attempt,
    }
    if error is not None:
        data["error"] = {name: error[name] for name in ("type", "message", "step") if name in error}
    elif event.type == "step.failed":
        message = facts.get("message", facts.get("reason"))
        data["error"] = {"type": facts.get("type", "LoopFailed"), "message": message, "step": event.step_key}
    if event.type == "step.parked":
        data["wait"] = {name: facts[name] for name in ("signal", "title", "to", "until") if name in facts}
    if event.type == "approval.answered":
        data["answered_by"] = facts.get("by")
    if public_url is not None:
        data["url"] = f"{public_url.rstrip('/')}/api/runs/{event.run_id}"
    return {name: value for name, value in data.items() if value is not None}
