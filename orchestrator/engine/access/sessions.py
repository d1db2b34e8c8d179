"""Sessions of users: a row each, so that they can be listed and ended."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from orchestrator.core.access import SESSION, Act, Actor, read, same
from orchestrator.engine.access import passwords
from orchestrator.engine.access.fresh import fresh
from orchestrator.errors import SessionNotFound, Unauthenticated
from orchestrator.ledger import access
from orchestrator.ledger.access import NewSession, SessionRow
from orchestrator.ledger.tx import Ledger

PASSWORD: Final = "password"
OIDC: Final = "oidc"


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """`token` is the secret that goes into the cookie."""

    id: str
    user: str
    expires_at: datetime
    token: str = field(repr=False)


def sign_in(
    ledger: Ledger, name: str, password: str, origin: Actor, *, lifetime: timedelta, agent: str | None = None
) -> OpenedSession:
    """Open a session for a user who knows their password. It takes as long for a name that nobody has.

    Raises:
        Unauthenticated: no user has that name and password, or they are disabled; kept in the audit.
    """
    with ledger.auto() as tx:
        user = access.user(tx, name)
    knows = passwords.verify(password, user.password_hash if user else None)

    def work(tx: Connection) -> OpenedSession | None:
        opened = open_session(tx, name, PASSWORD, origin, lifetime=lifetime, agent=agent) if knows else None
        if opened is None:
            access.audit(tx, origin, Act("session.refused", f"user/{name[:100]}"))
        return opened

    opened = ledger.retry(work)
    if opened is None:
        raise Unauthenticated("The name or the password is wrong. Fix: check both.")
    return opened


def open_session(
    tx: Connection, name: str, method: str, origin: Actor, *, lifetime: timedelta, agent: str | None
) -> OpenedSession | None:
    """A session of a user whose identity is proven; None: they are gone or disabled."""
    new = fresh(SESSION)
    ends = access.open_session(tx, new.kept, NewSession(name, method, lifetime, agent), origin)
    if ends is None:
        return None
    by = Actor(name, new.kept.id, origin.address, origin.request_id)
    access.audit(tx, by, Act("session.open", f"session/{new.kept.id}", became={"method": method}))
    return OpenedSession(new.kept.id, name, ends, new.text)


def authenticate(ledger: Ledger, token: str) -> SessionRow | None:
    """The open session that has this token; None for everything else."""
    given = read(SESSION, token)
    if given is None:
        return None
    with ledger.auto() as tx:
        row = access.session(tx, given.id)
    return row if same(row.digest if row else None, given.digest) else None


def listed(ledger: Ledger, user: str | None = None) -> list[SessionRow]:
    """Those that have not ended, the oldest first."""
    with ledger.auto() as tx:
        return access.sessions(tx, user)


def end(ledger: Ledger, session_id: str, actor: Actor) -> str:
    """End a session; returns how it was opened (`PASSWORD`, `OIDC`).

    Raises:
        SessionNotFound: no open session has that id.
    """

    def work(tx: Connection) -> str:
        ended = access.end_session(tx, session_id)
        if ended is None:
            raise SessionNotFound(
                f"No open session has the id {session_id[:100]!r}. Fix: take one that is open.", session=session_id
            )
        user, method = ended
        access.audit(tx, actor, Act("session.end", f"session/{session_id}", was={"user": user}))
        return method

    return ledger.retry(work)
