"""`Webhook("stripe-payments", scheme="stripe", secret=env("STRIPE_SECRET"))` in `@flow(webhooks=[…])`."""

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Final, NoReturn

from orchestrator.authoring.flow import AnyFlow
from orchestrator.authoring.step import Length
from orchestrator.core.webhook_triggers import Mode, SignatureFormat, WebhookRate
from orchestrator.errors import AuthoringError, ManifestInvalid
from orchestrator.webhooks import checks


def env(name: str) -> str:
    """A reference to a secret: the environment variable of that name, of the process that takes the deliveries."""
    return f"env:{name}"


def secret_file(path: str) -> str:
    """A reference to a secret: the content of a file with an absolute path, without the end of its last line."""
    return f"file:{path}"


@dataclass(frozen=True)
class Webhook:
    """Starts its flow by `POST /api/webhook/{slug}`, or sends a signal to one of its runs. None means: the default.

    `scheme` says how its publisher signs; `secret` and `previous_secret` are references (`env`, `secret_file`), never
    the secret itself. `input` holds expressions over the delivery: `{"order": "@triggerBody()?.data.id"}`; without it
    the whole body is the input. `docs/webhooks.md` has every option, and an example for each publisher.
    """

    slug: str
    _: KW_ONLY
    scheme: str
    secret: str
    previous_secret: str | None = None
    signature: SignatureFormat | Mapping[str, Any] | None = None
    mode: Mode | None = None
    addresses: Iterable[str] | None = None
    max_body: int | None = None
    tolerance: Length | None = None
    remember: Length | None = None
    rate: WebhookRate | Mapping[str, Any] | None = None
    body: str | None = None
    input: Any = None
    idempotency_key: str | None = None
    signal: str | None = None
    run: str | None = None
    search: str | None = None
    signal_key: str | None = None
    url: str | None = None
    description: str | None = None


_OPTIONS: Final = tuple(one.name for one in fields(Webhook) if one.name != "slug")


def add_webhooks(flow: AnyFlow, webhooks: Iterable[Webhook], place: str) -> None:
    """The webhooks of `@flow(webhooks=[…])`.

    Raises:
        AuthoringError: one of them is invalid.
    """
    if isinstance(webhooks, Webhook | str):
        _fail(place, f"`webhooks={webhooks!r:.60}` is not a list", "write `webhooks=[…]`")
    triggers: dict[str, Any] = dict(flow.manifest.triggers)
    for one in webhooks:
        if not isinstance(one, Webhook):
            _fail(place, f"{one!r:.60} is not a webhook of flow `{flow.name}`", "write `Webhook(…)`")
        if one.slug in triggers:
            _fail(place, f"flow `{flow.name}` has a trigger `{one.slug}` already", "give each a name of its own")
        triggers[one.slug] = _definition(one, place)
    try:
        manifest = flow.manifest.model_copy(update={"triggers": triggers})
        manifest.require(None, checks.problems(manifest))
    except ManifestInvalid as exc:
        raise AuthoringError(f"{place}: {exc.message}", place=place) from exc
    flow.manifest = manifest


def _definition(one: Webhook, place: str) -> dict[str, Any]:
    given = {name: getattr(one, name) for name in _OPTIONS if getattr(one, name) is not None}
    if isinstance(given.get("addresses"), str):
        _fail(place, f"`addresses={one.addresses!r:.60}` of webhook `{one.slug}` is not a list", "write a list")
    if "addresses" in given:
        given["addresses"] = tuple(given["addresses"])
    return {"type": "webhook", **given}


def _fail(place: str, problem: str, fix: str) -> NoReturn:
    raise AuthoringError(f"{place}: {problem}. Fix: {fix}.", place=place)
