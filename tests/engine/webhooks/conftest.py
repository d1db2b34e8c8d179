"""A flow with webhooks, and whoever calls them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.webhook_triggers import Mode
from orchestrator.engine.webhooks.arrival import Received
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.engine.webhooks.receive import receive
from orchestrator.webhooks.request import Request
from tests.support.deliveries import EVENT, KEY, compact, hexed
from tests.support.factories import Lab, call

FLOW = {"work": call(inputs={"id": "@triggerBody()?.id"})}


@dataclass
class Window:
    """Counts as `Rates` does, without a clock."""

    counts: dict[str, int] = field(default_factory=dict)

    def hit(self, bucket: str, limit: int, per: timedelta) -> int | None:
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        return None if self.counts[bucket] <= limit else 7


class Publisher:
    """Calls the webhooks of a lab; the scheme is `generic` unless the flow says otherwise."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.secrets: dict[str, str] = {"env:SECRET": KEY, "env:OLD": "the key before"}
        self.rates = Window()
        self.mode: Mode = "enforce"

    def flow(self, name: str = "orders", slug: str = "hook", schema: Any = None, **webhook: Any) -> None:
        given = {"type": "webhook", "scheme": "generic", "secret": "env:SECRET", **webhook}
        fields = {} if schema is None else {"input_schema": schema}
        self.lab.flow(FLOW, name, triggers={"manual": {}, slug: given}, **fields)

    def request(
        self, body: bytes = EVENT, key: str = KEY, address: str | None = "192.0.2.7", **headers: str
    ) -> Request:
        """Signed now, for `generic`."""
        time = str(int(self.lab.now().timestamp()))
        signed = {
            "X-Webhook-Timestamp": time,
            "X-Webhook-Signature": "sha256=" + hexed(f"{time}.".encode() + body, key),
        }
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Request.of(body, {**signed, **named}, url="https://api.example.com/api/webhook/hook", address=address)

    @property
    def keeper(self) -> Gatekeeper:
        return Gatekeeper(self._secret, self.rates, self.mode)

    def _secret(self, reference: str) -> str:
        if reference not in self.secrets:
            raise LookupError(f"the variable {reference.removeprefix('env:')} is not set")
        return self.secrets[reference]

    def call(self, request: Request | None = None, slug: str = "hook") -> Received:
        return receive(self.lab.ledger, self.keeper, slug, request or self.request())

    def post(self, value: Mapping[str, Any], slug: str = "hook", **headers: str) -> Received:
        return self.call(self.request(compact(value), **headers), slug)

    def runs(self) -> list[UUID]:
        return [row["id"] for row in self.lab.rows("SELECT id FROM flow_runs ORDER BY id")]

    def kept(self) -> list[dict[str, Any]]:
        return self.lab.rows("SELECT * FROM flow_webhook_deliveries ORDER BY id")


@pytest.fixture
def publisher(lab: Lab) -> Publisher:
    return Publisher(lab)
