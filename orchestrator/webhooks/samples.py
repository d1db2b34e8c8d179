"""A delivery that a scheme accepts, for trying a webhook out: what its publisher would send, signed with its secret."""

import hashlib
import json
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from orchestrator.core.webhook_triggers import SignatureFormat
from orchestrator.errors import UsageError
from orchestrator.webhooks import twilio
from orchestrator.webhooks.request import Request, Unreadable, read_json
from orchestrator.webhooks.schemes import Scheme
from orchestrator.webhooks.signatures import Claims, key_of, mac

BODY: Final = b'{"test": true}'


def signed(scheme: Scheme, secret: str, body: bytes, url: str, now: datetime, id: str) -> Request:
    """The body as a publisher sends it at that time, under that id; where the scheme has them in the body, they are put
    there.

    Raises:
        SecretUnusable: the secret is not written as the scheme has it.
        UsageError: the body has no room for what the scheme puts into it.
    """
    form = scheme.form
    time = str(int(now.timestamp() * (1000 if form.time_unit == "ms" else 1)))
    facts = {place: text for place, text in ((form.time, time), (form.id, id)) if place is not None}
    key = key_of(form, secret)
    if scheme.compose is twilio.compose and body:
        url += f"{'&' if urlsplit(url).query else '?'}bodySHA256={hashlib.sha256(body).hexdigest()}"
    body = _with_facts(form, body, facts)
    headers = [(place.removeprefix("header:"), text) for place, text in facts.items() if _in_header(place)]
    request = Request.of(body, [("content-type", "application/json"), *headers], url=url)
    claims = Claims((), time if form.time else None, id if form.id else None)
    proof = form.prefix + mac(form, scheme.compose(form, request, claims), key).decode()
    if not _in_header(form.signature):
        return replace(request, body=_put(body, form.signature, proof))
    if form.field is not None:
        pairs = [(place.removeprefix("field:"), text) for place, text in facts.items() if place.startswith("field:")]
        proof = ",".join(f"{name}={text}" for name, text in [*pairs, (form.field, proof)])
    return replace(request, headers=(*request.headers, (form.signature.removeprefix("header:"), proof)))


def _in_header(place: str) -> bool:
    return place.startswith("header:")


def _with_facts(form: SignatureFormat, body: bytes, facts: dict[str, str]) -> bytes:
    """An id that stands in the body is left as it is; the time is now."""
    for place, text in facts.items():
        if place.startswith("body:"):
            body = _put(body, place, int(text) if place == form.time else text, keep=place == form.id)
    return body


def _put(body: bytes, place: str, value: object, *, keep: bool = False) -> bytes:
    try:
        whole: Any = read_json(body)
    except Unreadable as exc:
        raise UsageError(f"This scheme has `{place}`, and the sample cannot have it: {exc}. Fix: give JSON.") from exc
    names = place.removeprefix("body:").split(".")
    inner = whole
    for name in names[:-1]:
        inner = inner.setdefault(name, {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        raise UsageError(f"This scheme has `{place}`, and the sample has no object there. Fix: give a JSON object.")
    if not (keep and names[-1] in inner):
        inner[names[-1]] = value
    return json.dumps(whole).encode()
