"""Webhooks over HTTP."""

from datetime import timedelta
from uuid import UUID

from orchestrator.client.given import at_least_one
from orchestrator.client.groups.webhooks import DAY, Replayed
from orchestrator.client.remote.groups.flows import HttpFlows
from orchestrator.client.remote.groups.group import Group, length_text
from orchestrator.client.remote.transport import part
from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.engine.webhooks.receive import unknown
from orchestrator.ledger.reads.rows import DeliveryCount, DeliveryRow, WebhookRow, WholeDelivery


class HttpWebhooks(Group):
    """As `Webhooks`."""

    def listed(self, since: timedelta = DAY) -> list[WebhookRow]:
        """As `Webhooks.listed`."""
        return self._client.listed(WebhookRow, "/webhooks", {"since": length_text(since)}, None)

    def trigger(self, slug: str) -> WebhookTrigger:
        """As `Webhooks.trigger`."""
        flows = [row.flow for row in self.listed() if row.slug == slug]
        if not flows:
            raise unknown(slug)
        current = HttpFlows(self._client).get(flows[0]).manifest_hash
        found = HttpFlows(self._client).manifest(current).webhooks.get(slug)
        if found is None:
            raise unknown(slug)
        return found

    def recent(self, slug: str | None = None, outcome: str | None = None, *, limit: int = 50) -> list[DeliveryRow]:
        """As `Webhooks.recent`."""
        query = {"slug": slug, "outcome": outcome}
        return self._client.listed(DeliveryRow, "/webhooks/recent", query, at_least_one(limit))

    def get(self, delivery: UUID | str) -> WholeDelivery:
        """As `Webhooks.get`."""
        return self._client.transport.get(WholeDelivery, f"/webhooks/deliveries/{part(delivery)}")

    def counts(self, slug: str | None = None, since: timedelta = DAY) -> list[DeliveryCount]:
        """As `Webhooks.counts`."""
        query = {"slug": slug, "since": length_text(since)}
        return self._client.listed(DeliveryCount, "/webhooks/stats", query, None)

    def replay(self, delivery: UUID | str) -> Replayed:
        """As `Webhooks.replay`; the API reads the secrets."""
        return self._client.transport.post(Replayed, f"/webhooks/deliveries/{part(delivery)}/replay")
