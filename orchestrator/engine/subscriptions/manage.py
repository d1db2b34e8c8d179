"""What people do with subscriptions: make, change, rotate, delete, try one; send again what was not delivered. Each
change is a row of the audit, in the same commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue, ValidationError
from sqlalchemy import Connection, select
from uuid_utils.compat import uuid7

from orchestrator.core import runquery
from orchestrator.core.access import Act, Actor
from orchestrator.core.subscriptions import OVERLAP, TEST, Wanted, made_after, shown_address
from orchestrator.core.suggest import closest
from orchestrator.engine.access.fresh import checked_name
from orchestrator.engine.subscriptions.keyring import Keyring
from orchestrator.errors import Conflict, NameTaken, SubscriptionNotFound, UsageError
from orchestrator.ledger import access, listing, notifications, subscriptions
from orchestrator.ledger.notifications import NewNotification
from orchestrator.ledger.schema import flow_runs
from orchestrator.ledger.subscriptions import Secret, SubscriptionRow
from orchestrator.ledger.tx import Ledger

REDRIVEN: Final = 1_000
"""The most notifications that one call sends again."""


@dataclass(frozen=True, slots=True)
class Told:
    """A subscription; with `secret` if one was made, which nobody can see again here."""

    row: SubscriptionRow
    secret: str | None = field(default=None, repr=False)


def wanted_of(**facts: Any) -> Wanted:
    """
    Raises:
        UsageError: something does not fit.
    """
    try:
        return Wanted.model_validate(facts)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        said = str(first["msg"]).removeprefix("Value error, ")
        fix = "" if "Fix: " in said else ". Fix: correct it"
        raise UsageError(f"The subscription does not fit: {where}: {said.rstrip('.')}{fix}.") from exc


def create(ledger: Ledger, name: str, wanted: Wanted, keyring: Keyring, actor: Actor) -> Told:
    """Subscribe: what happens from now on is told.

    Raises:
        UsageError, QueryInvalid: the name, the query or the secret does not fit.
        NameTaken: there is one of that name.
    """
    checked_name(name, "subscription")
    id = uuid7()
    secret = _secret(wanted, keyring, id, None)

    def work(tx: Connection) -> Told:
        _begin(tx)
        _check_query(tx, wanted.q)
        if not subscriptions.add(tx, id, name, wanted, secret, actor.name):
            raise NameTaken(
                f"There is a subscription of the name {name!r}. Fix: take another name, or change or delete that one.",
                name=name,
            )
        row = _found(tx, name)
        _audit(tx, actor, "create", row, became=shown(row))
        return Told(row, secret.text)

    return ledger.retry(work)


def update(
    ledger: Ledger, name: str, changes: Mapping[str, Any], actor: Actor, *, enabled: bool | None = None
) -> SubscriptionRow:
    """Change what is given, but for its kind and its secret. One that is enabled again is told what happens from then
    on; what was due to it is sent.

    Raises:
        SubscriptionNotFound: there is none.
        UsageError, QueryInvalid: something does not fit.
    """

    def work(tx: Connection) -> SubscriptionRow:
        _begin(tx)
        before = _found(tx, name, hold=True)
        facts = {"address": before.address, "types": before.types, "q": before.q, "include": before.include}
        wanted = wanted_of(kind=before.kind, **{**facts, **changes})
        if wanted.q != before.q:
            _check_query(tx, wanted.q)
        on = before.enabled if enabled is None else enabled
        why = None if on or enabled is False else before.why_disabled
        subscriptions.put(tx, before.id, wanted, enabled=on, by=actor.name, why=why)
        after = _found(tx, str(before.id))
        _audit(tx, actor, "update", after, was=shown(before), became=shown(after))
        return after

    return ledger.retry(work)


def rotate(
    ledger: Ledger,
    name: str,
    keyring: Keyring,
    actor: Actor,
    *,
    secret: str | None = None,
    overlap: timedelta = OVERLAP,
) -> Told:
    """Give it another secret: the one that the reference `secret` names, or one that is made. For `overlap` the one
    before signs as well.

    Raises:
        SubscriptionNotFound: there is none.
        UsageError: it signs nothing, or the secret does not fit.
    """
    if overlap < timedelta(0):
        raise UsageError("The overlap of a rotation is less than nothing. Fix: give 0s or more.")

    def work(tx: Connection) -> Told:
        before = _found(tx, name, hold=True)
        if before.secret is None:
            raise UsageError(f"{before.name} is sent as {before.kind}, which nobody signs. Fix: rotate its address.")
        wanted = wanted_of(kind=before.kind, address=before.address, types=before.types, secret=secret)
        new = _secret(wanted, keyring, before.id, before.secret)
        subscriptions.put_secret(tx, before.id, new, overlap, actor.name)
        after = _found(tx, str(before.id))
        facts = {"secret": new.reference, "overlap_s": overlap.total_seconds()}
        _audit(tx, actor, "rotate", after, was={"secret": before.secret}, became=facts)
        return Told(after, new.text)

    return ledger.retry(work)


def delete(ledger: Ledger, name: str, actor: Actor, *, reason: str | None = None) -> SubscriptionRow:
    """Unsubscribe: nothing is sent any more, what was sent is forgotten within hours.

    Raises:
        SubscriptionNotFound: there is none.
    """

    def work(tx: Connection) -> SubscriptionRow:
        row = _found(tx, name, hold=True)
        subscriptions.drop(tx, row.id)
        _audit(tx, actor, "delete", row, was=shown(row), reason=reason)
        return row

    return ledger.retry(work)


def listed(ledger: Ledger) -> list[SubscriptionRow]:
    """All, by name."""
    with ledger.auto() as tx:
        return subscriptions.every(tx)


def get(ledger: Ledger, name: str) -> SubscriptionRow:
    """
    Raises:
        SubscriptionNotFound: there is none.
    """
    with ledger.auto() as tx:
        return _found(tx, name)


def try_out(ledger: Ledger, name: str, actor: Actor, give_up: timedelta) -> UUID:
    """Send it a notification that says that it is a test; its id.

    Raises:
        SubscriptionNotFound: there is none.
        Conflict: it is disabled.
    """

    def work(tx: Connection) -> UUID:
        row = _found(tx, name)
        if not row.enabled:
            raise Conflict(f"{row.name} is disabled. Fix: `orchestrator subscription update {row.name} --enable`.")
        data: JsonValue = {"subscription": row.name, "text": f"A test of the subscription {row.name}, by {actor.name}."}
        new = NewNotification(uuid7(), row.id, None, None, TEST, row.now, data)
        notifications.add(tx, [new], give_up)
        _audit(tx, actor, "test", row)
        return new.id

    return ledger.retry(work)


def redrive(
    ledger: Ledger,
    actor: Actor,
    give_up: timedelta,
    *,
    ids: Sequence[UUID] | None = None,
    name: str | None = None,
) -> list[UUID]:
    """Send dead notifications again, with the ids that they had: these, or the oldest thousand of a subscription. Those
    that were sent again.

    Raises:
        SubscriptionNotFound: there is none.
        UsageError: neither is given.
        Conflict: one of `ids` is not dead; none is sent again then.
    """
    if ids is None and name is None:
        raise UsageError("Neither notifications nor a subscription are named. Fix: name one of the two.")

    def work(tx: Connection) -> list[UUID]:
        row = None if name is None else _found(tx, name)
        again = notifications.redrive(tx, ids, None if row is None else row.id, give_up, REDRIVEN)
        if ids is not None and (left := set(ids) - set(again)):
            raise Conflict(
                f"{min(map(str, left))} is not dead, or not there: it is under way, or was delivered. Fix: see "
                "`orchestrator notification ls --state dead`."
            )
        target = "notifications" if row is None else f"subscription/{row.id}"
        access.audit(tx, actor, Act("notification.redrive", target, became={"ids": [str(one) for one in again]}))
        return again

    return ledger.retry(work)


def shown(row: SubscriptionRow) -> dict[str, Any]:
    """A subscription as the audit has it."""
    return {
        "name": row.name,
        "kind": row.kind,
        "address": shown_address(row.kind, row.address),
        "types": list(row.types),
        "q": row.q,
        "include": list(row.include),
        "enabled": row.enabled,
        "secret": row.secret,
    }


def _begin(tx: Connection) -> None:
    """Nobody moves the feed now; where nobody listened to it, it begins here."""
    notifications.hold_feed(tx)
    if not notifications.anybody(tx):
        notifications.restart_feed(tx)


def _secret(wanted: Wanted, keyring: Keyring, id: UUID, before: str | None) -> Secret:
    """The one that it signs with from now on."""
    if wanted.kind != "json":
        return Secret(None)
    return keyring.made(id, made_after(before)) if wanted.secret is None else Secret(wanted.secret)


def _check_query(tx: Connection, q: str) -> None:
    listing.matching(tx, select(flow_runs.c.id), runquery.parse(q, datetime.now(UTC)))


def _found(tx: Connection, name: str, *, hold: bool = False) -> SubscriptionRow:
    row = subscriptions.get(tx, name, hold=hold)
    if row is None:
        guess = closest(name, {one.name for one in subscriptions.every(tx)})
        fix = f"did you mean `{guess}`?" if guess else "`orchestrator subscription ls` shows those that there are."
        raise SubscriptionNotFound(f"There is no subscription {name[:100]!r}. Fix: {fix}", name=name)
    return row


def _audit(tx: Connection, actor: Actor, action: str, row: SubscriptionRow, **facts: Any) -> None:
    access.audit(tx, actor, Act(f"subscription.{action}", f"subscription/{row.id}", **facts))
