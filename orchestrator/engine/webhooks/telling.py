"""The lines of the log about deliveries, with their codes; observers hear of refusals."""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from orchestrator.core.happened import Refused
from orchestrator.engine.webhooks.arrival import Arrived, Received
from orchestrator.ledger.webhooks import WebhookRow
from orchestrator.observe import logs
from orchestrator.observe.observer import notify
from orchestrator.webhooks.gates import Gate, Verdict

log = logging.getLogger(__name__)

_CODES: Final[Mapping[Gate, int]] = MappingProxyType(
    {
        Gate.ADDRESS: logs.WEBHOOK_ADDRESS,
        Gate.SIZE: logs.WEBHOOK_SIZE,
        Gate.SIGNATURE: logs.WEBHOOK_SIGNATURE,
        Gate.REPLAY: logs.WEBHOOK_REPLAY,
        Gate.RATE: logs.WEBHOOK_RATE,
        Gate.IDEMPOTENCY: logs.WEBHOOK_REPLAY,
        Gate.START: logs.WEBHOOK_NOT_STARTED,
    }
)
_NO_SECRET: Final = 503


def received(row: WebhookRow, size_bytes: int) -> None:
    """A delivery came."""
    log.info("webhook.received", extra=_facts(row, logs.WEBHOOK_RECEIVED, bytes=size_bytes))


def would_refuse(arrived: Arrived, verdict: Verdict) -> None:
    """A gate did not let it pass, and the mode is `audit`."""
    log.warning("webhook.would_refuse", extra=_refusal(arrived, verdict))


def refused(arrived: Arrived, verdict: Verdict) -> None:
    """A gate did not let it pass."""
    log.warning("webhook.refused", extra=_refusal(arrived, verdict))
    notify(Refused("start", f"webhook_{verdict.gate}", arrived.flow))


def accepted(arrived: Arrived, done: Received) -> None:
    """Its run was started, or it was known, or its signal delivered; with which key, if it was the one before."""
    facts: dict[str, Any] = {"delivery_id": arrived.id, "outcome": done.outcome, "run_id": done.run_id}
    if done.error is None:
        log.info("webhook.accepted", extra=_facts(arrived.row, logs.WEBHOOK_ACCEPTED, **facts))
    if arrived.judged.previous_key:
        log.warning("webhook.previous_key", extra=_facts(arrived.row, logs.WEBHOOK_PREVIOUS_KEY, **facts))


def not_stored(arrived: Arrived) -> None:
    """The database was away when the run was to be started."""
    log.error("webhook.not_started", extra=_facts(arrived.row, logs.WEBHOOK_NOT_STARTED, delivery_id=arrived.id))


def not_kept(arrived: Arrived, done: Received) -> None:
    """A refusal could not be kept; it stays one."""
    facts = _facts(arrived.row, logs.WEBHOOK_NOT_KEPT, delivery_id=arrived.id, outcome=done.outcome)
    log.error("webhook.not_kept", extra=facts)


def _refusal(arrived: Arrived, verdict: Verdict) -> dict[str, Any]:
    no_secret = verdict.gate is Gate.SIGNATURE and verdict.status == _NO_SECRET
    code = logs.WEBHOOK_SECRET if no_secret else _CODES[verdict.gate]
    return _facts(arrived.row, code, delivery_id=arrived.id, gate=str(verdict.gate), why=verdict.why)


def _facts(row: WebhookRow, code: int, **facts: Any) -> dict[str, Any]:
    return {"code": code, "slug": row.slug, "flow": row.flow, **facts}
