"""A delivery on its way, and what became of it."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import Literal
from uuid import UUID

from uuid_utils.compat import uuid7

from orchestrator.core.facts import Dispatch
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper, flood_id
from orchestrator.errors import OrchestratorError
from orchestrator.ledger.tx import Ledger
from orchestrator.ledger.webhooks import WebhookRow
from orchestrator.webhooks.gates import Door, Judged, Verdict
from orchestrator.webhooks.handshakes import Answer
from orchestrator.webhooks.request import Request

Outcome = Literal["started", "seen", "signalled", "handshake", "refused"]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery. `answer`: what its publisher wants to hear. The dispatches are for the caller to
    publish."""

    id: UUID
    slug: str
    flow: str
    scheme: str
    """How its webhook is signed."""
    outcome: Outcome
    status: int
    run_id: UUID | None = None
    error: OrchestratorError | None = None
    answer: Answer | None = None
    verdicts: tuple[Verdict, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()

    def accepted(self) -> "Received":
        """
        Raises:
            DeliveryRefused, DeliveryConflict, WebhookUnreadable, InputInvalid, FlowDisabled, IdempotencyConflict, …: it
                was refused.
        """
        if self.error is not None:
            raise self.error
        return self


@dataclass(frozen=True, slots=True)
class Arrived:
    """A delivery on its way through the gates."""

    ledger: Ledger
    keeper: Gatekeeper
    row: WebhookRow
    door: Door
    request: Request
    at: datetime
    """When it came: what its window is measured by."""
    began: float = field(default_factory=monotonic)
    """The same on the monotonic clock of this process."""
    id: UUID = field(default_factory=uuid7)
    judged: Judged = field(default_factory=Judged)
    replay_of: UUID | None = None

    @property
    def flow(self) -> str:
        return self.row.flow

    def told(self, *verdicts: Verdict) -> "Arrived":
        """With what further gates said."""
        return replace(self, judged=replace(self.judged, verdicts=(*self.judged.verdicts, *verdicts)))

    def counted(self) -> "Arrived":
        """As one of a flood, of which only the count is kept, by the minute."""
        return replace(self, id=flood_id(self.door.slug, self.at))

    @property
    def is_counted(self) -> bool:
        """Whether it is one of a flood."""
        return self.id == flood_id(self.door.slug, self.at)
