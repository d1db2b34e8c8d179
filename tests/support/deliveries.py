"""One delivery of each scheme, signed by the publisher's own package, its published vector, or openssl: never by our
code."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.webhooks.request import Request

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
SECONDS = str(int(NOW.timestamp()))
KEY = "5f2b0c7e9d1a4c3b8e6f"
URL = "https://hooks.example.com/api/webhook/it?shop=1"


def openssl(content: bytes, key: bytes, algorithm: str = "sha256") -> bytes:
    """The MAC of these bytes, by a program that shares nothing with ours."""
    command = ["openssl", "dgst", f"-{algorithm}", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def hexed(content: bytes, key: str = KEY, algorithm: str = "sha256") -> str:
    return openssl(content, key.encode(), algorithm).hex()


def based(content: bytes, key: bytes = KEY.encode(), algorithm: str = "sha256") -> str:
    return base64.b64encode(openssl(content, key, algorithm)).decode()


@dataclass(frozen=True)
class Sample:
    """A delivery that is right, at `NOW`, with its key."""

    scheme: str
    body: bytes
    headers: dict[str, str]
    secret: str = KEY
    url: str = URL
    at: datetime = NOW
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def trigger(self) -> WebhookTrigger:
        return WebhookTrigger(type="webhook", scheme=self.scheme, secret="env:SECRET", **self.fields)

    def request(self, address: str | None = "192.0.2.7") -> Request:
        return Request.of(self.body, self.headers, url=self.url, address=address)


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


EVENT = compact({"id": "evt_1", "type": "paid", "amount": 42})


def _stripe() -> Sample:
    import stripe

    signed = stripe.WebhookSignature._compute_signature(f"{SECONDS}.{EVENT.decode()}", KEY)
    return Sample("stripe", EVENT, {"Stripe-Signature": f"t={SECONDS},v1={signed},v0={'0' * 64}"})


def _slack() -> Sample:
    from slack_sdk.signature import SignatureVerifier

    body = compact({"type": "event_callback", "event_id": "Ev1"})
    signed = SignatureVerifier(KEY).generate_signature(timestamp=SECONDS, body=body)
    return Sample("slack", body, {"X-Slack-Request-Timestamp": SECONDS, "X-Slack-Signature": signed})


def _twilio() -> Sample:
    from twilio.request_validator import RequestValidator

    fields = {"CallSid": "CA1", "From": "+14158675309", "Body": "a b&c=d é"}
    body = b"CallSid=CA1&From=%2B14158675309&Body=a+b%26c%3Dd+%C3%A9"
    signed = RequestValidator(KEY).compute_signature(URL, fields)
    kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    return Sample("twilio", body, {**kind, "X-Twilio-Signature": signed})


def _twilio_json() -> Sample:
    from twilio.request_validator import RequestValidator

    url = f"{URL}&bodySHA256={hashlib.sha256(EVENT).hexdigest()}"
    headers = {
        "Content-Type": "application/json",
        "X-Twilio-Signature": RequestValidator(KEY).compute_signature(url, {}),
    }
    return Sample("twilio", EVENT, headers, url=url)


def _standard_webhooks() -> Sample:
    from standardwebhooks.webhooks import Webhook

    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": SECONDS}
    signed = Webhook(secret).sign("msg_1", NOW, EVENT.decode())
    return Sample("standard_webhooks", EVENT, {**headers, "webhook-signature": f"v1a,xyz {signed}"}, secret)


def _zoom() -> Sample:
    body = compact({"event": "meeting.started", "payload": {"object": {"id": "1"}}})
    signed = hexed(f"v0:{SECONDS}:".encode() + body)
    return Sample("zoom", body, {"x-zm-request-timestamp": SECONDS, "x-zm-signature": f"v0={signed}"})


def _linear() -> Sample:
    body = compact({"action": "create", "type": "Issue", "webhookTimestamp": int(NOW.timestamp()) * 1000 + 500})
    return Sample("linear", body, {"Linear-Delivery": "d-1", "Linear-Signature": hexed(body)})


def _mailgun() -> Sample:
    token = "50d0" * 12
    signature = {"timestamp": SECONDS, "token": token, "signature": hexed(f"{SECONDS}{token}".encode())}
    return Sample("mailgun", compact({"signature": signature, "event-data": {"event": "delivered"}}), {})


def _custom() -> Sample:
    wire = {
        "signature": "header:x-acme-proof",
        "separator": ",",
        "prefix": "p=",
        "algorithm": "sha512",
        "encoding": "base64",
        "content": "{method} {url} {header:x-acme-day} {time} {body}",
        "time": "header:x-acme-time",
        "time_unit": "ms",
        "key": "hex",
    }
    content = f"POST {URL} Sunday {SECONDS}000 ".encode() + EVENT
    proof = based(content, bytes.fromhex("00ff" * 16), "sha512")
    headers = {"X-Acme-Day": "Sunday", "X-Acme-Time": f"{SECONDS}000", "X-Acme-Proof": f"q=old,p={proof}"}
    return Sample("custom", EVENT, headers, "00ff" * 16, fields={"signature": wire})


def _plain(scheme: str, header: str, prefix: str = "", id: str | None = None, algorithm: str = "sha256") -> Sample:
    """The MAC of the body, in hex."""
    ids = {} if id is None else {id: "d-1"}
    return Sample(scheme, EVENT, {header: prefix + hexed(EVENT, algorithm=algorithm), **ids})


SAMPLES: dict[str, Callable[[], Sample]] = {
    "github": lambda: _plain("github", "X-Hub-Signature-256", "sha256=", "X-GitHub-Delivery"),
    "github_legacy": lambda: _plain("github_legacy", "X-Hub-Signature", "sha1=", "X-GitHub-Delivery", "sha1"),
    "bitbucket": lambda: _plain("bitbucket", "X-Hub-Signature", "sha256=", "X-Request-UUID"),
    "atlassian": lambda: _plain("atlassian", "X-Hub-Signature", "sha256=", "X-Atlassian-Webhook-Identifier"),
    "dropbox": lambda: _plain("dropbox", "X-Dropbox-Signature"),
    "stripe": _stripe,
    "calendly": lambda: Sample(
        "calendly",
        EVENT,
        {"Calendly-Webhook-Signature": f"t={SECONDS},v1={hexed(f'{SECONDS}.'.encode() + EVENT)}"},
    ),
    "slack": _slack,
    "zoom": _zoom,
    "shopify": lambda: Sample("shopify", EVENT, {"X-Shopify-Hmac-Sha256": based(EVENT), "X-Shopify-Webhook-Id": "d-1"}),
    "square": lambda: Sample("square", EVENT, {"x-square-hmacsha256-signature": based(URL.encode() + EVENT)}),
    "linear": _linear,
    "mailgun": _mailgun,
    "microsoft_teams": lambda: Sample(
        "microsoft_teams",
        EVENT,
        {"Authorization": "HMAC " + based(EVENT, b"a key of 32 bytes, as Teams has.")},
        base64.b64encode(b"a key of 32 bytes, as Teams has.").decode(),
    ),
    "standard_webhooks": _standard_webhooks,
    "generic": lambda: Sample(
        "generic",
        EVENT,
        {
            "X-Webhook-Timestamp": SECONDS,
            "X-Webhook-Id": "d-1",
            "X-Webhook-Signature": "sha256=" + hexed(f"{SECONDS}.".encode() + EVENT),
        },
    ),
    "twilio": _twilio,
    "twilio_json": _twilio_json,
    "custom": _custom,
}

PACKAGES = {
    "stripe": "stripe",
    "slack": "slack-sdk",
    "twilio": "twilio",
    "square": "squareup",
    "standard_webhooks": "standardwebhooks",
}
"""Schemes whose publisher has a package, which signs the sample or judges it."""

IT_IS_A_SECRET = "It's a Secret to Everybody"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.c"
    b"om%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc88"
    b"7a14d10d2c447fce8b6703c"
)
PUBLISHED: list[Sample] = [
    Sample(
        "github",
        b"Hello, World!",
        {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        IT_IS_A_SECRET,
    ),
    *[
        Sample(
            scheme,
            b"Hello World!",
            {"X-Hub-Signature": "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"},
            IT_IS_A_SECRET,
        )
        for scheme in ("bitbucket", "atlassian")
    ],
    Sample(
        "slack",
        SLACK_BODY,
        {
            "X-Slack-Request-Timestamp": "1531420618",
            "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        "8f742231b10e8888abcd99yyyzzz85a5",
        at=datetime.fromtimestamp(1531420618, UTC),
    ),
    Sample(
        "twilio",
        b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212",
        {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        },
        "12345",
        url="https://mycompany.com/myapp.php?foo=1&bar=2",
    ),
    Sample(
        "square",
        b'{"hello":"world"}',
        {"X-Square-HmacSha256-Signature": "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og="},
        "asdf1234",
        url="https://example.com/webhook",
    ),
    Sample(
        "standard_webhooks",
        b'{"test": 2432232314}',
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        at=datetime.fromtimestamp(1614265330, UTC),
    ),
]
"""Vectors that publishers publish."""
