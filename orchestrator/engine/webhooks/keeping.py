"""What is kept of a delivery: gate by gate, without secrets; whole, if it was refused and may be replayed."""

import base64
import hashlib
import json
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.core import headers
from orchestrator.core.secrets import NOTHING
from orchestrator.engine.webhooks import telling
from orchestrator.engine.webhooks.arrival import Arrived, Received
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import webhooks
from orchestrator.ledger.webhooks import NewDelivery
from orchestrator.webhooks.mapping import read_form
from orchestrator.webhooks.request import Request, Unreadable

_SHOWN: Final = 64 * 1024
"""Characters of a body that is shown."""
_NEVER: Final = frozenset({"cookie", "proxy-authorization"})


def keep(arrived: Arrived, received: Received) -> None:
    """In a commit of its own. A refusal stays one when it cannot be kept."""
    try:
        arrived.ledger.retry(lambda tx: keep_in(tx, arrived, received))
    except SQLAlchemyError:
        telling.not_kept(arrived, received)


def keep_in(tx: Connection, arrived: Arrived, received: Received) -> None:
    """In the caller's transaction."""
    webhooks.keep(tx, _row(arrived, received))


def _row(arrived: Arrived, received: Received) -> NewDelivery:
    request, door = arrived.request, arrived.door
    first = next((one for one in received.verdicts if not one.passed), None)
    refused = received.outcome == "refused" and not arrived.is_counted
    return NewDelivery(
        id=arrived.id,
        slug=door.slug,
        flow=arrived.flow,
        scheme=door.trigger.scheme,
        mode=door.mode,
        outcome=received.outcome,
        status=received.status,
        size_bytes=len(request.body),
        digest=hashlib.sha256(request.body).hexdigest(),
        gate=None if first is None else str(first.gate),
        why=None if first is None else _safe(first.why),
        verdicts=json.dumps(
            [{"gate": str(one.gate), "passed": one.passed, "why": _safe(one.why)} for one in received.verdicts]
        ),
        address=request.address,
        headers=json.dumps(headers.kept(request.headers)),
        body=None if arrived.is_counted else _shown(arrived),
        run_id=received.run_id,
        previous_key=arrived.judged.previous_key,
        raw=packed(request, _signature_header(arrived)) if refused else None,
        replay_of=arrived.replay_of,
    )


def _safe(text: str) -> str:
    """What PostgreSQL can hold of a text that may quote the request."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()[:1000]


def _shown(arrived: Arrived) -> str | None:
    """The body without secrets: those that the flow's types and names say."""
    request, trigger = arrived.request, arrived.door.trigger
    if len(request.body) > _SHOWN:
        return None
    try:
        value: Any = request.json()
    except Unreadable:
        try:
            value = read_form(request.body)
        except OrchestratorError:
            return None
    try:
        secrets = arrived.ledger.secrets(arrived.row.manifest_hash)
    except OrchestratorError:
        return None
    whole = trigger.input is None and trigger.signal is None
    return json.dumps(secrets.shown(value, secrets.input if whole else NOTHING))


# ---- whole requests --------------------------------------------------------------------------------------------


def _signature_header(arrived: Arrived) -> str:
    return arrived.door.scheme.form.signature.removeprefix("header:").lower()


def packed(request: Request, signature: str) -> bytes:
    """A request, for a replay: with the header of its signature, without others that authorize somebody."""
    kept = [
        (name, value)
        for name, value in request.headers
        if name == signature or not (name in _NEVER or _is_password(name))
    ]
    body = base64.b64encode(request.body).decode()
    facts = {"method": request.method, "url": request.url, "address": request.address, "headers": kept, "body": body}
    return json.dumps(facts).encode()


def _is_password(name: str) -> bool:
    return name == "authorization" or name.endswith(("-token", "-key", "-secret", "-password"))


def unpacked(raw: bytes) -> Request:
    """The request that was packed."""
    facts = json.loads(raw)
    given = [(str(name), str(value)) for name, value in facts["headers"]]
    body = base64.b64decode(facts["body"])
    return Request.of(body, given, url=facts["url"], method=facts["method"], address=facts["address"])
