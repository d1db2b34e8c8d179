"""Signing in at a provider of identities: what is kept between the way there and the way back, and who comes back."""

from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from orchestrator.core.access import Act, Actor, Role
from orchestrator.core.sign_in import Attempt, Identity
from orchestrator.engine.access import sessions, users
from orchestrator.engine.access.fresh import checked_user_name
from orchestrator.engine.access.sessions import OpenedSession
from orchestrator.errors import NameTaken, Unauthenticated
from orchestrator.ledger import access
from orchestrator.ledger.access import UserRow
from orchestrator.ledger.tx import Ledger

LIFETIME: Final = timedelta(minutes=10)
"""How long somebody may take at their provider."""


def begin(ledger: Ledger, attempt: Attempt, then: str) -> None:
    """Keep a try to sign in, and the path to go to afterwards."""
    ledger.retry(lambda tx: access.begin_sign_in(tx, attempt.digest, then, LIFETIME))


def take(ledger: Ledger, attempt: Attempt) -> str | None:
    """Where to go then. It can be taken once; None: it was, it took too long, or another browser began it."""
    return ledger.once(lambda tx: access.take_sign_in(tx, attempt.digest))


def sign_in(
    ledger: Ledger, who: Identity, role: Role, origin: Actor, *, lifetime: timedelta, agent: str | None = None
) -> OpenedSession:
    """Open a session for somebody whom a provider has proven to be that. At the first time they are added as a user;
    later their role and groups become what it says now, and they keep the name that they have here.

    Raises:
        UsageError: nobody may be called so.
        NameTaken: another user has the name; whoever a provider calls so is not that one.
        Unauthenticated: they are disabled; kept in the audit.
    """
    checked_user_name(who.name)

    def work(tx: Connection) -> OpenedSession | None:
        user = _user(tx, who, role, origin)
        opened = sessions.open_session(tx, user.name, sessions.OIDC, origin, lifetime=lifetime, agent=agent)
        if opened is None:
            access.audit(tx, origin, Act("session.refused", f"user/{user.name}", reason="disabled"))
        return opened

    opened = ledger.retry(work)
    if opened is None:
        raise Unauthenticated(f"{who.name} may not sign in here. Fix: ask an admin.")
    return opened


def refused(ledger: Ledger, origin: Actor, why: str) -> None:
    """Keep that somebody was not let in, and why."""
    ledger.once(lambda tx: access.audit(tx, origin, Act("session.refused", f"user/{origin.name}"[:200], reason=why)))


def _user(tx: Connection, who: Identity, role: Role, origin: Actor) -> UserRow:
    known = access.identified(tx, who)
    if known is None:
        new = access.add_identified(tx, who, role, who.issuer)
        if new is not None:
            access.audit(tx, origin, Act("user.create", f"user/{new.name}", became=users.shown(new)))
            return new
        known = access.identified(tx, who)  # another replica added them just now
    if known is None:
        raise NameTaken(
            f"There is another user {who.name!r} here. Fix: let ORCHESTRATOR_OIDC_NAME_CLAIM name a claim that nobody "
            "else's equals, such as `sub`.",
            name=who.name,
        )
    users.describe(tx, known, role, who.groups, origin)
    return known
