"""What subscriptions are told, over HTTP."""

from uuid import UUID

from orchestrator.client.given import at_least_one
from orchestrator.client.groups.group import By
from orchestrator.client.remote.access import nobody_else
from orchestrator.client.remote.groups.group import Group
from orchestrator.client.remote.groups.subscriptions import Sent
from orchestrator.client.remote.transport import part
from orchestrator.core.subscriptions import NotificationState
from orchestrator.ledger.reads.rows import NotificationRow, WholeNotification


class HttpNotifications(Group):
    """As `Notifications`."""

    def listed(
        self, subscription: str | None = None, state: NotificationState | None = None, *, limit: int = 50
    ) -> list[NotificationRow]:
        """As `Notifications.listed`."""
        query = {"subscription": subscription, "state": state}
        return self._client.listed(NotificationRow, "/notifications", query, at_least_one(limit))

    def get(self, notification: UUID | str) -> WholeNotification:
        """As `Notifications.get`."""
        return self._client.transport.get(WholeNotification, f"/notifications/{part(notification)}")

    def redrive(self, notification: UUID | str, *, by: By = None) -> UUID:
        """As `Notifications.redrive`."""
        nobody_else(by)
        return self._client.transport.post(Sent, f"/notifications/{part(notification)}/redrive").id
