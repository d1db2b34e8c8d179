"""What a delivery says, as the input of a run or the payload of a signal."""

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from orchestrator.core import headers, values
from orchestrator.core.expressions import EvaluationFailed, Scope, as_json, evaluate, parse_bare, resolve
from orchestrator.core.webhook_triggers import WebhookTrigger
from orchestrator.errors import InputInvalid, ValueRefused, WebhookUnreadable
from orchestrator.webhooks.request import FORM, Request, Unreadable, read_pairs


@dataclass(frozen=True, slots=True)
class Mapped:
    """`text` is JSON: the input or the payload. `key`: of the start, or of the signal. `run`: who gets the signal."""

    text: str = field(repr=False)
    headers: str = field(repr=False)
    key: str | None = None
    run: str | None = None


def mapped(trigger: WebhookTrigger, request: Request) -> Mapped:
    """
    Raises:
        WebhookUnreadable: the body is not what the trigger takes.
        InputInvalid: an expression cannot be evaluated with what came.
    """
    form = _is_form(trigger, request)
    body = read_form(request.body) if form else _json(request)
    kept = headers.kept(request.headers)
    scope = Scope(trigger=body, headers=kept)
    if trigger.input is not None:
        text = _resolved(trigger, scope)
    else:
        text = values.dumps(body) if form else request.body.decode()
    key = trigger.signal_key if trigger.signal is not None else trigger.idempotency_key
    return Mapped(text, json.dumps(kept), _text("key", key, scope), _text("run", trigger.run, scope))


def _is_form(trigger: WebhookTrigger, request: Request) -> bool:
    if trigger.body != "auto":
        return trigger.body == "form"
    try:
        return (request.header("content-type") or "").partition(";")[0].strip().lower() == FORM
    except Unreadable as exc:
        raise _unreadable(str(exc)) from exc


def _json(request: Request) -> Any:
    try:
        return request.json()
    except Unreadable as exc:
        raise _unreadable(str(exc)) from exc


def read_form(body: bytes) -> dict[str, Any]:
    """The fields by name; one that came several times is a list.

    Raises:
        WebhookUnreadable: it is no form.
    """
    try:
        pairs = read_pairs(body)
    except Unreadable as exc:
        raise _unreadable(str(exc)) from exc
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    fields = {name: one[0] if len(one) == 1 else one for name, one in found.items()}
    refused = values.refusal(fields)
    if refused is not None:
        raise _unreadable(f"the body holds {refused.problem}, which cannot be stored")
    return fields


def _resolved(trigger: WebhookTrigger, scope: Scope) -> str:
    try:
        return values.dumps(resolve(trigger.input, scope))
    except (EvaluationFailed, ValueRefused) as exc:
        raise InputInvalid(f"The delivery does not fit the webhook's `input`: {exc}.", path="") from exc


def _text(name: str, expression: str | None, scope: Scope) -> str | None:
    """What an expression gives, as text; a text or a whole number."""
    if expression is None:
        return None
    try:
        found: JsonValue = as_json(evaluate(parse_bare(expression), scope))
    except EvaluationFailed as exc:
        raise InputInvalid(f"The delivery does not fit the webhook's `{name}`: {exc}.", path="") from exc
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        shown = "null" if found is None else type(found).__name__
        raise InputInvalid(
            f"The webhook's `{name}`, `{expression}`, gives {shown} for this delivery. Fix: let it give a text.",
            path="",
        )
    return str(found)


def _unreadable(why: str) -> WebhookUnreadable:
    return WebhookUnreadable(f"The delivery cannot be read: {why}. Fix: send what the webhook takes.")
