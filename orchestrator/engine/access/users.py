"""Users who sign in with a password. (Those of a provider of identities: `sign_ins`.)"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from orchestrator.core.access import Act, Actor, Role
from orchestrator.core.suggest import closest
from orchestrator.engine.access import passwords
from orchestrator.engine.access.fresh import checked_user_name
from orchestrator.errors import NameTaken, UsageError, UserNotFound
from orchestrator.ledger import access
from orchestrator.ledger.access import UserRow
from orchestrator.ledger.tx import Ledger


def create(ledger: Ledger, name: str, role: Role, password: str, actor: Actor) -> UserRow:
    """Add a user with a password.

    Raises:
        UsageError: the name or the password does not fit.
        NameTaken: there is one of that name.
    """
    checked_user_name(name)
    kept = passwords.hashed(password)

    def work(tx: Connection) -> UserRow:
        row = access.add_user(tx, name, role, (), kept, actor.name)
        if row is None:
            raise NameTaken(f"There is a user {name!r}. Fix: take another name.", name=name)
        access.audit(tx, actor, Act("user.create", _target(name), became=shown(row)))
        return row

    return ledger.retry(work)


def listed(ledger: Ledger) -> list[UserRow]:
    """All, by name."""
    with ledger.auto() as tx:
        return access.users(tx)


def set_password(ledger: Ledger, name: str, password: str, actor: Actor) -> None:
    """Give a user another password; their sessions end.

    Raises:
        UsageError: it does not fit, or their provider says who they are: a password would let them in past it.
        UserNotFound: there is none.
    """
    kept = passwords.hashed(password)

    def work(tx: Connection) -> None:
        if (issuer := _held(tx, name).issuer) is not None:
            raise UsageError(f"{name} signs in at {issuer}. Fix: change the password there.")
        _put(tx, name, actor, "user.password", password_hash=kept)
        access.end_sessions_of(tx, name)

    ledger.retry(work)


def set_role(ledger: Ledger, name: str, role: Role, actor: Actor) -> UserRow:
    """Give a user another role; it holds for sessions that are open, too.

    Raises:
        UserNotFound: there is none.
    """
    return ledger.retry(lambda tx: _put(tx, name, actor, "user.role", role=role))


def disable(ledger: Ledger, name: str, actor: Actor, *, reason: str | None = None) -> None:
    """Let a user in no more, and end their sessions.

    Raises:
        UserNotFound: there is none.
    """

    def work(tx: Connection) -> None:
        before = _held(tx, name)
        access.put_user(tx, replace(before, disabled_at=before.disabled_at or before.created_at))
        ended = access.end_sessions_of(tx, name)
        facts = {"disabled": True, "sessions_ended": ended}
        access.audit(tx, actor, Act("user.disable", _target(name), was=shown(before), became=facts, reason=reason))

    ledger.retry(work)


def enable(ledger: Ledger, name: str, actor: Actor) -> None:
    """Let a user in again.

    Raises:
        UserNotFound: there is none.
    """
    ledger.retry(lambda tx: _put(tx, name, actor, "user.enable", disabled_at=None))


def describe(tx: Connection, before: UserRow, role: Role, groups: Sequence[str], actor: Actor) -> None:
    """What a provider of identities says of a user now."""
    _put(tx, before.name, actor, "user.change", role=role, groups=list(groups))


def shown(row: UserRow) -> dict[str, Any]:
    """A user as the audit has them."""
    return {
        "name": row.name,
        "role": str(row.role),
        "groups": list(row.groups),
        "password": row.password_hash is not None,
        "disabled": row.disabled_at is not None,
        "issuer": row.issuer,
        "subject": row.subject,
    }


def _put(tx: Connection, name: str, actor: Actor, action: str, **changes: Any) -> UserRow:
    before = _held(tx, name)
    changed = replace(before, **changes)
    if changed != before:
        access.put_user(tx, changed)
        access.audit(tx, actor, Act(action, _target(name), was=shown(before), became=shown(changed)))
    return changed


def _held(tx: Connection, name: str) -> UserRow:
    found = access.user(tx, name, hold=True)
    if found is None:
        guess = closest(name, [row.name for row in access.users(tx)])
        fix = f"did you mean `{guess}`?" if guess else "`orchestrator user ls` shows those that there are."
        raise UserNotFound(f"No user has the name {name[:100]!r}. Fix: {fix}", user=name)
    return found


def _target(name: str) -> str:
    return f"user/{name}"
