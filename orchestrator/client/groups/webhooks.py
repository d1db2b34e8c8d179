"""What publishers call, and what came."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self
from uuid import UUID

from orchestrator.client.given import at_least_one
from orchestrator.client.groups.group import Group
from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.engine.webhooks import receive, replay
from orchestrator.engine.webhooks.arrival import Received
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import DeliveryCount, DeliveryRow, WebhookRow, WholeDelivery
from orchestrator.servers.secrets import References

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a delivery that was taken through the gates again: as of one that came just now, with `status` as
    its publisher would see it. `why` it was refused again."""

    id: UUID
    outcome: str
    status: int
    run_id: UUID | None
    why: str | None = None

    @classmethod
    def of(cls, received: Received) -> Self:
        why = None if received.error is None else received.error.message
        return cls(received.id, received.outcome, received.status, received.run_id, why)


class Webhooks(Group):
    """Webhooks and their deliveries."""

    def listed(self, since: timedelta = DAY) -> list[WebhookRow]:
        """Every webhook, with how much came in that time."""
        return self._client.call(reads.webhooks.every, since)

    def trigger(self, slug: str) -> WebhookTrigger:
        """A webhook, as the current version of its flow has it.

        Raises:
            WebhookNotFound: there is none.
        """
        return self._client.call(receive.find, self._keeper(), slug)[1].trigger

    def recent(self, slug: str | None = None, outcome: str | None = None, *, limit: int = 50) -> list[DeliveryRow]:
        """What came, accepted or not, the newest first."""
        return self._client.call(reads.webhooks.recent, slug, outcome, limit=at_least_one(limit))

    def get(self, delivery: UUID | str) -> WholeDelivery:
        """A delivery by its id or the last (at least four) characters of it: gate by gate, why, and what it said,
        without secrets.

        Raises:
            WebhookNotFound: there is none, or several.
        """
        return self._client.call(reads.webhooks.get, self._named(delivery))

    def counts(self, slug: str | None = None, since: timedelta = DAY) -> list[DeliveryCount]:
        """How much came in that time, by outcome and by the gate that refused it."""
        return self._client.call(reads.webhooks.counts, since, slug)

    def replay(self, delivery: UUID | str) -> Replayed:
        """Take a delivery that was refused through the gates again, as they are now, at the time that it came. Secrets
        are read in this process.

        Raises:
            WebhookNotFound: there is none.
            Conflict: it was accepted, or replayed already.
        """
        received = self._client.call(replay.replay, self._keeper(), self._named(delivery))
        self._client.publish(received.dispatches)
        return Replayed.of(received)

    def _named(self, delivery: UUID | str) -> UUID:
        return self._client.call(reads.webhooks.named, str(delivery))

    def _keeper(self) -> Gatekeeper:
        return Gatekeeper(References(os.environ), mode=self._client.settings.webhook_mode)
