"""How publishers sign, each by its own package or, where it has none, by its documentation: nothing of ours."""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import stripe
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook

from tests.edge.flows import SECRET, SECRETS

Sign = Callable[[str, bytes, str], dict[str, str]]
"""The headers of a delivery: by its id, its body and the key."""


@dataclass(frozen=True)
class Manner:
    """How a publisher sends. `anew`: each try is signed for its own moment; others send what they sent before."""

    sign: Sign
    key: str = SECRET
    anew: bool = False


def _now() -> str:
    return str(int(datetime.now(UTC).timestamp()))


def _mac(content: bytes, key: str) -> str:
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


def _stripe(id: str, body: bytes, key: str) -> dict[str, str]:
    time = _now()
    signed = stripe.WebhookSignature._compute_signature(f"{time}.{body.decode()}", key)
    return {"Stripe-Signature": f"t={time},v1={signed}"}


def _github(id: str, body: bytes, key: str) -> dict[str, str]:
    return {"X-Hub-Signature-256": f"sha256={_mac(body, key)}", "X-GitHub-Delivery": id}


def _standard(id: str, body: bytes, key: str) -> dict[str, str]:
    now = datetime.now(UTC)
    signed = Webhook(key).sign(id, now, body.decode())
    return {"webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signed}


def _generic(id: str, body: bytes, key: str) -> dict[str, str]:
    time = _now()
    signed = _mac(f"{time}.".encode() + body, key)
    return {"X-Webhook-Timestamp": time, "X-Webhook-Id": id, "X-Webhook-Signature": f"sha256={signed}"}


def _slack(id: str, body: bytes, key: str) -> dict[str, str]:
    time = _now()
    signed = SignatureVerifier(key).generate_signature(timestamp=time, body=body)
    assert signed is not None
    return {"X-Slack-Request-Timestamp": time, "X-Slack-Signature": signed}


_STANDARD: Final = SECRETS["EDGE_STANDARD"]
MANNERS: Final[Mapping[str, Manner]] = {
    "hook-stripe": Manner(_stripe, anew=True),
    "hook-github": Manner(_github),
    "hook-standard": Manner(_standard, _STANDARD, anew=True),
    "hook-generic": Manner(_generic),
    "hook-slack": Manner(_slack, anew=True),
    "order-created": Manner(_standard, _STANDARD, anew=True),
    "order-paid": Manner(_stripe, anew=True),
}
"""By the slug of the webhook."""


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
