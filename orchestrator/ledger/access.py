"""Keys, users, sessions and the audit, as the ledger has them. No row shows a secret."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select

from orchestrator.core.access import Act, Actor, Credential, Grant, Role, Scope
from orchestrator.core.sign_in import Identity
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.schema import flow_audit

R = TypeVar("R", bound="_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What is common to the rows below."""

    @classmethod
    def of(cls: type[R], row: Row[Any]) -> R:
        """From a row with these columns, and others."""
        mapping = row._mapping
        return cls(**{one.name: mapping[one.name] for one in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow(_Row):
    """An API key. `now` is the ledger's clock when it was read."""

    id: str
    name: str
    role: Role
    scopes: Sequence[str]
    flows: Sequence[str]
    digest: bytes = field(repr=False)
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    replaced_by: str | None
    now: datetime

    @property
    def state(self) -> str:
        """`live`, `replaced` (it works until it expires), `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= self.now:
            return "expired"
        return "live" if self.replaced_by is None else "replaced"

    @property
    def works(self) -> bool:
        """Whether it lets anybody in."""
        return self.state in {"live", "replaced"}

    @property
    def grant(self) -> Grant:
        """What it may do.

        Raises:
            ValueError: a newer release gave it a role or a scope that is not known here.
        """
        return Grant(Role(self.role), frozenset(map(Scope, self.scopes)), frozenset(self.flows))


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow(_Row):
    """Somebody who may sign in."""

    name: str
    role: Role
    groups: Sequence[str]
    password_hash: str | None = field(repr=False)
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    signed_in_at: datetime | None
    issuer: str | None
    subject: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow(_Row):
    """A user who is signed in, with what they may do now."""

    id: str
    user_name: str
    digest: bytes = field(repr=False)
    method: str
    created_at: datetime
    expires_at: datetime
    address: str | None
    agent: str | None
    role: Role
    groups: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow(_Row):
    """What somebody did: `was` and `became` are the facts before and after."""

    id: int
    at: datetime
    actor: str
    key_id: str | None
    action: str
    target: str
    was: Mapping[str, Any] | None
    became: Mapping[str, Any] | None
    reason: str | None
    address: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows of the audit."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


# ---- keys ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """When something ends: at a time, or after a while; or never."""

    at: datetime | None = None
    after: timedelta | None = None


def add_key(tx: Connection, given: Credential, name: str, grant: Grant, expiry: Expiry, by: str) -> KeyRow | None:
    """None: another key has the name."""
    row = one(
        tx,
        "add_api_key",
        key_id=given.id,
        name=name,
        role=str(grant.role),
        scopes=sorted(map(str, grant.scopes)),
        flows=sorted(grant.flows),
        digest=given.digest,
        by=by,
        expires_at=expiry.at,
        expires_in=expiry.after,
    )
    return None if row is None else KeyRow.of(row)


def keys(tx: Connection, *, ended: bool = False) -> list[KeyRow]:
    """Those that work, or all."""
    return [KeyRow.of(row) for row in run(tx, "api_keys", ended=ended)]


def key(tx: Connection, key_id: str) -> KeyRow | None:
    """The key of that id, whatever its state."""
    row = one(tx, "api_key", key_id=key_id)
    return None if row is None else KeyRow.of(row)


def hold_keys(tx: Connection, wanted: str) -> list[KeyRow]:
    """Lock those of an id or a name that are not revoked; the current one first."""
    return [KeyRow.of(row) for row in run(tx, "hold_api_keys", wanted=wanted)]


def replace_key(tx: Connection, key_id: str, by: str, overlap: timedelta) -> None:
    """It ends after the overlap."""
    run(tx, "replace_api_key", key_id=key_id, replaced_by=by, overlap=overlap)


def revoke_keys(tx: Connection, key_ids: Sequence[str], by: str) -> None:
    """They end now."""
    run(tx, "revoke_api_keys", key_ids=list(key_ids), by=by)


def keys_used(tx: Connection, key_ids: Sequence[str]) -> None:
    """Note that they are in use, to the minute."""
    run(tx, "api_keys_used", key_ids=list(key_ids))


# ---- users and sessions ----


def add_user(
    tx: Connection, name: str, role: Role, groups: Sequence[str], password_hash: str | None, by: str
) -> UserRow | None:
    """None: there is one of that name."""
    row = one(tx, "add_user", user_name=name, role=str(role), groups=list(groups), password_hash=password_hash, by=by)
    return None if row is None else UserRow.of(row)


def users(tx: Connection) -> list[UserRow]:
    """All, by name."""
    return [UserRow.of(row) for row in run(tx, "users")]


def user(tx: Connection, name: str, *, hold: bool = False) -> UserRow | None:
    """The user of that name; `hold` locks them."""
    row = one(tx, "hold_user", user_name=name) if hold else one(tx, "user", user_name=name)
    return None if row is None else UserRow.of(row)


def identified(tx: Connection, who: Identity) -> UserRow | None:
    """The user whom a provider means, locked."""
    row = one(tx, "identified_user", issuer=who.issuer, subject=who.subject)
    return None if row is None else UserRow.of(row)


def add_identified(tx: Connection, who: Identity, role: Role, by: str) -> UserRow | None:
    """None: somebody has that name, or is that."""
    row = one(
        tx,
        "add_identified_user",
        user_name=who.name,
        role=str(role),
        groups=list(who.groups),
        issuer=who.issuer,
        subject=who.subject,
        by=by,
    )
    return None if row is None else UserRow.of(row)


def begin_sign_in(tx: Connection, digest: bytes, then: str, lifetime: timedelta) -> None:
    """Keep a try to sign in; those that are long over are removed."""
    run(tx, "bury_sign_ins")
    run(tx, "begin_sign_in", digest=digest, next=then, lifetime=lifetime)


def take_sign_in(tx: Connection, digest: bytes) -> str | None:
    """Where to go then; None: there is none, it was taken, or it took too long. It is gone afterwards."""
    row = one(tx, "take_sign_in", digest=digest)
    return row.next if row is not None and row.in_time else None


def put_user(tx: Connection, changed: UserRow) -> None:
    """What can be changed of a user. `disabled_at` says whether, not when."""
    run(
        tx,
        "put_user",
        user_name=changed.name,
        role=str(changed.role),
        groups=list(changed.groups),
        password_hash=changed.password_hash,
        disabled=changed.disabled_at is not None,
    )


@dataclass(frozen=True, slots=True)
class NewSession:
    """Somebody signs in. `agent`: what their browser calls itself."""

    user_name: str
    method: str
    lifetime: timedelta
    agent: str | None


def open_session(tx: Connection, given: Credential, new: NewSession, origin: Actor) -> datetime | None:
    """When it ends; None: the user is gone or disabled."""
    row = one(
        tx,
        "open_session",
        session_id=given.id,
        user_name=new.user_name,
        digest=given.digest,
        method=new.method,
        lifetime=new.lifetime,
        address=origin.address,
        agent=new.agent,
    )
    run(tx, "bury_sessions")
    return None if row is None else row.expires_at


def session(tx: Connection, session_id: str) -> SessionRow | None:
    """A session that has not ended, of a user who is not disabled."""
    row = one(tx, "session", session_id=session_id)
    return None if row is None else SessionRow.of(row)


def sessions(tx: Connection, user_name: str | None = None) -> list[SessionRow]:
    """Those that have not ended."""
    return [SessionRow.of(row) for row in run(tx, "sessions", user_name=user_name)]


def end_session(tx: Connection, session_id: str) -> tuple[str, str] | None:
    """Whose it was, and how they had signed in; None: there is none."""
    row = one(tx, "end_session", session_id=session_id)
    return None if row is None else (row.user_name, row.method)


def end_sessions_of(tx: Connection, user_name: str) -> int:
    """How many there were."""
    return run(tx, "end_sessions_of", user_name=user_name).rowcount


# ---- audit ----


def audit(tx: Connection, actor: Actor, act: Act) -> None:
    """Keep what somebody did, in the commit that did it."""
    run(
        tx,
        "add_audit",
        actor=actor.name,
        key_id=actor.key_id,
        action=act.action,
        target=act.target,
        was=None if act.was is None else json.dumps(act.was),
        became=None if act.became is None else json.dumps(act.became),
        reason=act.reason,
        address=actor.address,
        request_id=actor.request_id,
    )


def audited(tx: Connection, wanted: AuditFilter, *, limit: int, before: int | None = None) -> list[AuditRow]:
    """The newest first; `before` is the last id of the page before."""
    columns = flow_audit.c
    query = select(flow_audit).order_by(columns.id.desc()).limit(limit)
    for name in ("actor", "action", "target"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(columns[name] == value)
    if wanted.since is not None:
        query = query.where(columns.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(columns.at < wanted.until)
    if before is not None:
        query = query.where(columns.id < before)
    return [AuditRow.of(row) for row in tx.execute(query)]


def drop_audit(tx: Connection, until: datetime, page: int) -> int:
    """Forget a page of what is older; how many rows."""
    return len(run(tx, "drop_audit", until=until, page=page).all())
