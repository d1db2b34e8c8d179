"""What subscriptions are told."""

from uuid import UUID

from orchestrator.client.given import at_least_one
from orchestrator.client.groups.group import By, Group, actor
from orchestrator.core.subscriptions import NotificationState
from orchestrator.engine.subscriptions import manage
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import NotificationRow, WholeNotification


class Notifications(Group):
    """What was, is and will be sent to subscriptions."""

    def listed(
        self, subscription: str | None = None, state: NotificationState | None = None, *, limit: int = 50
    ) -> list[NotificationRow]:
        """Of a subscription, or of all; the newest first."""
        return self._client.call(reads.notifications.page, subscription, state, limit=at_least_one(limit))

    def get(self, notification: UUID | str) -> WholeNotification:
        """One by its id, or the last (at least four) characters of it: what it says, and each attempt.

        Raises:
            NotificationNotFound: there is none, or several.
        """
        id = self._client.call(reads.notifications.named, str(notification))
        return self._client.call(reads.notifications.get, id)

    def redrive(self, notification: UUID | str, *, by: By = None) -> UUID:
        """Send a dead one again, now, with its id.

        Raises:
            NotificationNotFound: there is none, or several.
            Conflict: it is not dead.
        """
        id = self._client.call(reads.notifications.named, str(notification))
        give_up = self._client.settings.notification_give_up_after
        self._client.call_once(manage.redrive, actor(by), give_up, ids=[id])
        return id
