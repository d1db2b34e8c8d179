"""Who is told what."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

from orchestrator.client.groups.group import By, Group, actor
from orchestrator.core.subscriptions import OVERLAP, Kind, NotificationState, Wanted, shown_address
from orchestrator.delivery import outbound
from orchestrator.engine.subscriptions import manage
from orchestrator.engine.subscriptions.keyring import Keyring
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import NotificationCount
from orchestrator.ledger.subscriptions import SubscriptionRow

LATELY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SubscriptionShown:
    """A subscription. `address` is without what may be a secret. `secret` is a reference: `made:N` was made here; None:
    nothing is signed. `breaker` is `closed`, `open` (nothing is sent until `open_until`) or `half_open`."""

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
    previous_until: datetime | None
    """Until then the secret before signs as well."""
    since: datetime
    created_at: datetime
    created_by: str
    changed_at: datetime | None
    changed_by: str | None
    breaker: str
    failures: int | None
    """Of its endpoint, in a row."""
    open_until: datetime | None

    @classmethod
    def of(cls, row: SubscriptionRow) -> Self:
        facts = {one.name: getattr(row, one.name) for one in fields(SubscriptionShown)}
        return cls(**{**facts, "address": shown_address(row.kind, row.address)})


@dataclass(frozen=True, slots=True)
class SubscriptionMade:
    """`secret` is not shown again; None where none was made."""

    secret: str | None = field(repr=False)
    shown: SubscriptionShown


@dataclass(frozen=True, slots=True)
class SubscriptionCounts:
    """A subscription, and what it was told in a day: how many notifications stand how."""

    shown: SubscriptionShown
    lately: Mapping[NotificationState, NotificationCount]


class Subscriptions(Group):
    """Subscriptions to what happens."""

    def listed(self) -> list[SubscriptionShown]:
        """All, by name."""
        return [SubscriptionShown.of(row) for row in self._client.call(manage.listed)]

    def get(self, name: str) -> SubscriptionCounts:
        """By its name or id.

        Raises:
            SubscriptionNotFound: there is none.
        """
        row = self._client.call(manage.get, name)
        counts = self._client.call(reads.notifications.counts, row.id, LATELY)
        return SubscriptionCounts(SubscriptionShown.of(row), counts)

    def create(self, name: str, wanted: Wanted, *, by: By = None) -> SubscriptionMade:
        """Subscribe: what happens from now on is told.

        Raises:
            UsageError, QueryInvalid: something does not fit; nothing may be sent there.
            NameTaken: there is one of that name.
        """
        outbound.check(self._client.settings, wanted.kind, wanted.address)
        told = self._client.call_once(manage.create, name, wanted, self._keyring(), actor(by))
        return SubscriptionMade(told.secret, SubscriptionShown.of(told.row))

    def update(
        self, name: str, changes: Mapping[str, Any], *, enabled: bool | None = None, by: By = None
    ) -> SubscriptionShown:
        """Change `address`, `types`, `q` or `include`; turn it on or off.

        Raises:
            SubscriptionNotFound: there is none.
            UsageError, QueryInvalid: as `create`.
        """
        if "address" in changes:
            outbound.check(self._client.settings, self._client.call(manage.get, name).kind, str(changes["address"]))
        return SubscriptionShown.of(self._client.call(manage.update, name, changes, actor(by), enabled=enabled))

    def rotate(
        self, name: str, *, secret: str | None = None, overlap: timedelta = OVERLAP, by: By = None
    ) -> SubscriptionMade:
        """Give it another secret: the one that the reference `secret` names, or one that is made. For `overlap` the one
        before signs as well.

        Raises:
            SubscriptionNotFound: there is none.
            UsageError: it signs nothing, or the secret does not fit.
        """
        told = self._client.call_once(manage.rotate, name, self._keyring(), actor(by), secret=secret, overlap=overlap)
        return SubscriptionMade(told.secret, SubscriptionShown.of(told.row))

    def delete(self, name: str, *, reason: str | None = None, by: By = None) -> SubscriptionShown:
        """Unsubscribe: nothing is sent any more, and what was is forgotten. As it was.

        Raises:
            SubscriptionNotFound: there is none.
        """
        return SubscriptionShown.of(self._client.call_once(manage.delete, name, actor(by), reason=reason))

    def test(self, name: str, *, by: By = None) -> UUID:
        """Send it a notification that says that it is a test; its id.

        Raises:
            SubscriptionNotFound: there is none.
            Conflict: it is disabled.
        """
        give_up = self._client.settings.notification_give_up_after
        return self._client.call_once(manage.try_out, name, actor(by), give_up)

    def redrive(self, name: str, *, by: By = None) -> list[UUID]:
        """Send its dead notifications again, the oldest thousand, now, with their ids. Those that are.

        Raises:
            SubscriptionNotFound: there is none.
        """
        give_up = self._client.settings.notification_give_up_after
        return self._client.call_once(manage.redrive, actor(by), give_up, name=name)

    def _keyring(self) -> Keyring:
        return outbound.keyring(self._client.settings, os.environ)
