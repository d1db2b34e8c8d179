"""Subscriptions over HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from orchestrator.client.groups.group import By
from orchestrator.client.groups.subscriptions import SubscriptionCounts, SubscriptionMade, SubscriptionShown
from orchestrator.client.remote.access import nobody_else
from orchestrator.client.remote.groups.group import Group, length_text
from orchestrator.client.remote.transport import Ask, part, read
from orchestrator.core.subscriptions import OVERLAP, Wanted


@dataclass(frozen=True, slots=True)
class Sent:
    """What is sent now."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a redrive answers."""

    ids: Sequence[UUID]


class HttpSubscriptions(Group):
    """As `Subscriptions`."""

    def listed(self) -> list[SubscriptionShown]:
        """As `Subscriptions.listed`."""
        return self._client.listed(SubscriptionShown, "/subscriptions", {}, None)

    def get(self, name: str) -> SubscriptionCounts:
        """As `Subscriptions.get`."""
        return self._client.transport.get(SubscriptionCounts, _path(name))

    def create(self, name: str, wanted: Wanted, *, by: By = None) -> SubscriptionMade:
        """As `Subscriptions.create`."""
        nobody_else(by)
        body = {"name": name, **wanted.model_dump(mode="json")}
        return self._client.transport.secret(SubscriptionMade, "/subscriptions", body)

    def update(
        self, name: str, changes: Mapping[str, Any], *, enabled: bool | None = None, by: By = None
    ) -> SubscriptionShown:
        """As `Subscriptions.update`."""
        nobody_else(by)
        ask = Ask("PATCH", _path(name), body={**changes, "enabled": enabled}, again=True)
        return read(SubscriptionShown, self._client.transport.ask(ask))

    def rotate(
        self, name: str, *, secret: str | None = None, overlap: timedelta = OVERLAP, by: By = None
    ) -> SubscriptionMade:
        """As `Subscriptions.rotate`."""
        nobody_else(by)
        body = {"secret": secret, "overlap": length_text(overlap)}
        return self._client.transport.secret(SubscriptionMade, f"{_path(name)}/rotate", body)

    def delete(self, name: str, *, reason: str | None = None, by: By = None) -> SubscriptionShown:
        """As `Subscriptions.delete`."""
        nobody_else(by)
        return read(SubscriptionShown, self._client.transport.ask(Ask("DELETE", _path(name), {"reason": reason})))

    def test(self, name: str, *, by: By = None) -> UUID:
        """As `Subscriptions.test`."""
        nobody_else(by)
        return self._client.transport.post(Sent, f"{_path(name)}/test").id

    def redrive(self, name: str, *, by: By = None) -> list[UUID]:
        """As `Subscriptions.redrive`."""
        nobody_else(by)
        return list(self._client.transport.post(Redriven, f"{_path(name)}/redrive").ids)


def _path(name: str) -> str:
    return f"/subscriptions/{part(name)}"
