"""API keys: made, rotated, revoked, and known again. Each change is a row of the audit, in the same commit."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection

from orchestrator.core.access import KEY, Act, Actor, Grant, read, same
from orchestrator.core.suggest import closest
from orchestrator.engine.access.fresh import checked_name, fresh
from orchestrator.errors import KeyEnded, KeyNotFound, NameTaken, UsageError
from orchestrator.ledger import access
from orchestrator.ledger.access import Expiry, KeyRow
from orchestrator.ledger.tx import Ledger

OVERLAP: Final = timedelta(days=1)
"""How long a key works on after its rotation."""
NEVER: Final = Expiry()


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key. `text` is the secret: nobody can see it again."""

    row: KeyRow
    text: str = field(repr=False)


def create(ledger: Ledger, name: str, grant: Grant, actor: Actor, expiry: Expiry = NEVER) -> MadeKey:
    """Make a key.

    Raises:
        UsageError: the name does not fit, or the key would have expired already.
        NameTaken: a key that is not revoked has the name.
    """
    checked_name(name, "key")

    def work(tx: Connection) -> MadeKey:
        made = _add(tx, name, grant, actor, expiry)
        access.audit(tx, actor, Act("key.create", _target(made.row), became=shown(made.row)))
        return made

    return ledger.retry(work)


def rotate(
    ledger: Ledger, wanted: str, actor: Actor, *, overlap: timedelta = OVERLAP, expiry: Expiry | None = None
) -> MadeKey:
    """Make a key like that one, by its id or name; the one before works on for `overlap`. Without `expiry` the new one
    lives as long as the other was made to.

    Raises:
        KeyNotFound: there is none.
        KeyEnded: it has expired, or was rotated before.
    """
    if overlap < timedelta(0):
        raise UsageError("The overlap of a rotation is less than nothing. Fix: give 0s or more.")

    def work(tx: Connection) -> MadeKey:
        before = _held(tx, wanted)[0]
        if before.state != "live":
            reason = "has expired" if before.state == "expired" else f"was replaced by key {before.replaced_by}"
            raise KeyEnded(f"Key {before.id} ({before.name}) {reason}. Fix: create a key, or rotate the current one.")
        new = fresh(KEY)
        access.replace_key(tx, before.id, new.kept.id, overlap)
        lifetime = None if before.expires_at is None else before.expires_at - before.created_at
        row = access.add_key(tx, new.kept, before.name, before.grant, expiry or Expiry(after=lifetime), actor.name)
        assert row is not None
        _ends_later(row)
        facts = {"id": row.id, "overlap_s": overlap.total_seconds()}
        access.audit(tx, actor, Act("key.rotate", _target(before), was=shown(before), became=facts))
        return MadeKey(row, new.text)

    return ledger.retry(work)


def revoke(ledger: Ledger, wanted: str, actor: Actor, *, reason: str | None = None) -> list[KeyRow]:
    """End a key by its id, or every key of a name, also those that a rotation lets work on. Each process that knows
    them lets them in for 5 s more at most. Returns those that were ended.

    Raises:
        KeyNotFound: there is none.
    """

    def work(tx: Connection) -> list[KeyRow]:
        found = _held(tx, wanted)
        access.revoke_keys(tx, [row.id for row in found], actor.name)
        for row in found:
            access.audit(tx, actor, Act("key.revoke", _target(row), was=shown(row), reason=reason))
        return found

    return ledger.retry(work)


def listed(ledger: Ledger, *, ended: bool = False) -> list[KeyRow]:
    """Those that work, or all."""
    with ledger.auto() as tx:
        return access.keys(tx, ended=ended)


def authenticate(ledger: Ledger, text: str) -> KeyRow | None:
    """The key that this is the text of; None for everything else, whatever is wrong with it.

    Costs one statement by primary key, and none for what is no key.
    """
    given = read(KEY, text)
    if given is None:
        return None
    with ledger.auto() as tx:
        row = access.key(tx, given.id)
    return row if same(row.digest if row else None, given.digest) and row is not None and row.works else None


def used(ledger: Ledger, key_ids: Collection[str]) -> None:
    """Note that keys are in use. Not for the way of a request: it writes."""
    if key_ids:
        ledger.once(lambda tx: access.keys_used(tx, sorted(key_ids)))


def shown(row: KeyRow) -> dict[str, Any]:
    """A key as the audit has it."""
    return {
        "id": row.id,
        "name": row.name,
        "role": str(row.role),
        "scopes": list(row.scopes),
        "flows": list(row.flows),
        "expires_at": None if row.expires_at is None else row.expires_at.isoformat(),
    }


def _add(tx: Connection, name: str, grant: Grant, actor: Actor, expiry: Expiry) -> MadeKey:
    new = fresh(KEY)
    row = access.add_key(tx, new.kept, name, grant, expiry, actor.name)
    if row is None:
        raise NameTaken(
            f"There is a key of the name {name!r}. Fix: take another name, or `orchestrator key rotate` or "
            "`revoke` that one.",
            name=name,
        )
    _ends_later(row)
    return MadeKey(row, new.text)


def _ends_later(row: KeyRow) -> None:
    if row.expires_at is not None and row.expires_at <= row.now:
        raise UsageError(f"The key would have expired at {row.expires_at.isoformat()}. Fix: give a time to come.")


def _held(tx: Connection, wanted: str) -> list[KeyRow]:
    found = access.hold_keys(tx, wanted)
    if not found:
        raise _unknown(wanted, access.keys(tx))
    return found


def _unknown(wanted: str, known: Iterable[KeyRow]) -> KeyNotFound:
    guess = closest(wanted, {name for row in known for name in (row.id, row.name)})
    fix = f"did you mean `{guess}`?" if guess else "`orchestrator key ls` shows those that there are."
    return KeyNotFound(f"No API key has the id or name {wanted[:100]!r}. Fix: {fix}", key=wanted)


def _target(row: KeyRow) -> str:
    return f"key/{row.id}"
