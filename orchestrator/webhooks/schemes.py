"""The schemes: one row each, and those that other packages bring.

A package brings its own by an entry point of the group `orchestrator.webhook_schemes`: its name is the scheme's, its
object a `Scheme` or a `SignatureFormat`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Final

from orchestrator.core.suggest import did_you_mean
from orchestrator.core.webhook_triggers import SignatureFormat, WebhookTrigger, normal_scheme
from orchestrator.errors import UsageError
from orchestrator.webhooks import twilio
from orchestrator.webhooks.request import Request
from orchestrator.webhooks.signatures import Compose, Signed, compose, read

GROUP: Final = "orchestrator.webhook_schemes"
CUSTOM: Final = "custom"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A wire format; `compose` where its signed bytes cannot be written as `content`."""

    form: SignatureFormat
    compose: Compose = compose

    def read(self, request: Request) -> Signed:
        """What the request claims.

        Raises:
            Unreadable: it has not the form of the scheme.
        """
        return read(self.form, request, self.compose)


def _row(signature: str, **fields: object) -> Scheme:
    return Scheme(SignatureFormat.model_validate({"signature": signature, **fields}))


_PAIRS: Final = {"field": "v1", "content": "{time}.{body}", "time": "field:t"}

BUILT_IN: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "github": _row("header:x-hub-signature-256", prefix="sha256=", id="header:x-github-delivery"),
        "github_legacy": _row(
            "header:x-hub-signature", prefix="sha1=", algorithm="sha1", id="header:x-github-delivery"
        ),
        "bitbucket": _row("header:x-hub-signature", prefix="sha256=", id="header:x-request-uuid"),
        "atlassian": _row("header:x-hub-signature", prefix="sha256=", id="header:x-atlassian-webhook-identifier"),
        # An event of Stripe that is sent again may differ in `pending_webhooks`.
        "stripe": _row("header:stripe-signature", **_PAIRS, id="body:id", same_by="id"),
        "calendly": _row("header:calendly-webhook-signature", **_PAIRS, tolerance=timedelta(minutes=3)),
        "slack": _row(
            "header:x-slack-signature",
            prefix="v0=",
            content="v0:{time}:{body}",
            time="header:x-slack-request-timestamp",
        ),
        "zoom": _row(
            "header:x-zm-signature", prefix="v0=", content="v0:{time}:{body}", time="header:x-zm-request-timestamp"
        ),
        "shopify": _row("header:x-shopify-hmac-sha256", encoding="base64", id="header:x-shopify-webhook-id"),
        "square": _row(
            "header:x-square-hmacsha256-signature", encoding="base64", content="{url}{body}", id="body:event_id"
        ),
        "linear": _row(
            "header:linear-signature",
            time="body:webhookTimestamp",
            time_unit="ms",
            tolerance=timedelta(minutes=1),
            id="header:linear-delivery",
        ),
        "dropbox": _row("header:x-dropbox-signature"),
        # The body is not signed: the token is what makes a delivery itself.
        "mailgun": _row(
            "body:signature.signature",
            content="{time}{id}",
            time="body:signature.timestamp",
            id="body:signature.token",
        ),
        "microsoft_teams": _row("header:authorization", prefix="HMAC ", encoding="base64", key="base64"),
        "standard_webhooks": _row(
            "header:webhook-signature",
            separator=" ",
            prefix="v1,",
            encoding="base64",
            content="{id}.{time}.{body}",
            time="header:webhook-timestamp",
            id="header:webhook-id",
            key="base64",
            key_prefix="whsec_",
        ),
        "generic": _row(
            "header:x-webhook-signature",
            prefix="sha256=",
            content="{time}.{body}",
            time="header:x-webhook-timestamp",
            id="header:x-webhook-id",
        ),
        "twilio": Scheme(
            SignatureFormat(
                signature="header:x-twilio-signature",
                algorithm="sha1",
                encoding="base64",
                content="{url}{body}",
                id="header:i-twilio-idempotency-token",
            ),
            twilio.compose,
        ),
    }
)


@cache
def _brought() -> Mapping[str, Scheme]:
    found: dict[str, Scheme] = {}
    for point in entry_points(group=GROUP):
        made = point.load()
        if not isinstance(made, Scheme | SignatureFormat):
            raise UsageError(
                f"The webhook scheme {point.name!r} ({point.value}) is {type(made).__name__}. Fix: give a `Scheme` or "
                "a `SignatureFormat`."
            )
        found[_plain(point.name)] = made if isinstance(made, Scheme) else Scheme(made)
    return MappingProxyType(found)


def _plain(name: str) -> str:
    """`StandardWebhooks` is `standard_webhooks`."""
    return normal_scheme(name).replace("_", "")


_BY_NAME: Final = MappingProxyType({_plain(name): scheme for name, scheme in BUILT_IN.items()})


def scheme_of(trigger: WebhookTrigger) -> Scheme:
    """
    Raises:
        UsageError: there is no scheme of that name.
    """
    if trigger.signature is not None:
        return Scheme(trigger.signature)
    return named(trigger.scheme)


def named(name: str) -> Scheme:
    """The scheme of that name, without regard to case, `-` and `_`.

    Raises:
        UsageError: there is none.
    """
    plain = _plain(name)
    found = _BY_NAME.get(plain) or _brought().get(plain)
    if found is None:
        raise UsageError(f"There is no webhook scheme {name!r}. Fix: {did_you_mean(name, names())}")
    return found


def names() -> list[str]:
    """Every scheme that is known here."""
    return sorted([*BUILT_IN, CUSTOM, *_brought()])
