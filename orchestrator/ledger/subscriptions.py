"""Subscriptions, as the ledger has them: who is told what. Secrets are not there, only where they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.subscriptions import BREAKER, Kind, Wanted
from orchestrator.ledger.rows import one, run


@dataclass(frozen=True, slots=True)
class Secret:
    """What a subscription signs with, as the ledger has it: a reference, None where nothing is signed. Of one that is
    made of the signing key, `fingerprint` tells by which; `text` is shown when it is made, and not kept."""

    reference: str | None
    fingerprint: str | None = None
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRow:
    """A subscription, and how its endpoint does. `now` is the ledger's clock when it was read."""

    id: UUID
    name: str
    kind: Kind
    address: str
    types: Sequence[str]
    q: str
    include: Sequence[str]
    enabled: bool
    why_disabled: str | None
    secret: str | None
    fingerprint: str | None
    previous_secret: str | None
    previous_until: datetime | None
    since: datetime
    created_at: datetime
    created_by: str
    changed_at: datetime | None
    changed_by: str | None
    failures: int | None
    open_until: datetime | None
    now: datetime

    @property
    def breaker(self) -> str:
        """`closed`; `open`: nothing is sent; `half_open`: one notification tries the endpoint next, or does."""
        if (self.failures or 0) < BREAKER or self.open_until is None:
            return "closed"
        return "open" if self.open_until > self.now else "half_open"

    @classmethod
    def of(cls, row: Row[Any]) -> "SubscriptionRow":
        mapping = row._mapping
        return cls(**{one.name: mapping[one.name] for one in fields(cls)})


def add(tx: Connection, id: UUID, name: str, wanted: Wanted, secret: Secret, by: str) -> bool:
    """Whether nobody has the name."""
    signs = {"secret": secret.reference, "fingerprint": secret.fingerprint}
    made = one(tx, "add_subscription", id=id, name=name, kind=wanted.kind, by=by, **signs, **_facts(wanted))
    run(tx, "add_endpoint", address=wanted.address)
    return made is not None


def every(tx: Connection) -> list[SubscriptionRow]:
    """All, by name."""
    return [SubscriptionRow.of(row) for row in run(tx, "subscriptions")]


def get(tx: Connection, wanted: str, *, hold: bool = False) -> SubscriptionRow | None:
    """The one of that name or id; `hold` locks it."""
    row = one(tx, "hold_subscription", wanted=wanted) if hold else one(tx, "subscription", wanted=wanted)
    return None if row is None else SubscriptionRow.of(row)


def put(tx: Connection, id: UUID, wanted: Wanted, *, enabled: bool, by: str, why: str | None = None) -> None:
    """What it says from now on, but for its secret. `why` it was disabled, if nobody did it."""
    run(tx, "add_endpoint", address=wanted.address)
    run(tx, "put_subscription", id=id, enabled=enabled, why=why, by=by, **_facts(wanted))
    run(tx, "drop_endpoints")


def put_secret(tx: Connection, id: UUID, secret: Secret, overlap: timedelta, by: str) -> None:
    """Another secret; the one before signs as well for the overlap."""
    signs = {"secret": secret.reference, "fingerprint": secret.fingerprint}
    run(tx, "put_secret", id=id, overlap=overlap, by=by, **signs)


def disable(tx: Connection, id: UUID, *, why: str, by: str) -> None:
    """It is told nothing more."""
    run(tx, "disable_subscription", id=id, why=why, by=by)


def drop(tx: Connection, id: UUID) -> None:
    """Forget it, and its endpoint if nobody else has it."""
    run(tx, "drop_subscription", id=id)
    run(tx, "drop_endpoints")


def _facts(wanted: Wanted) -> dict[str, Any]:
    return {
        "address": wanted.address,
        "types": list(wanted.types),
        "q": wanted.q,
        "include": cast("list[str]", list(wanted.include)),
    }
