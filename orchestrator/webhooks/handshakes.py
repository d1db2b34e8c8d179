"""What publishers ask before they send anything, and what they want to hear."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.webhooks.request import Request, Unreadable, at

_CHALLENGE_LIMIT: Final = 1024
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that a publisher reads."""

    body: str
    content_type: str


def challenge(scheme: str, query: Mapping[str, str]) -> Answer | None:
    """To a GET: Dropbox wants its challenge back. It is text, never a page: whoever asks has proved nothing."""
    text = query.get("challenge", "")
    if scheme != "dropbox" or not 1 <= len(text) <= _CHALLENGE_LIMIT:
        return None
    return Answer(text, TEXT)


def handshake(scheme: str, request: Request, key: bytes) -> Answer | None:
    """To a delivery that passed its gates and is no event: Slack and Zoom ask whether the URL is ours."""
    try:
        match scheme:
            case "slack":
                return _slack(request)
            case "zoom":
                return _zoom(request, key)
    except Unreadable:  # a form, as Slack's commands are
        return None
    return None


def _slack(request: Request) -> Answer | None:
    if at(request.json(), "type") != "url_verification":
        return None
    text = at(request.json(), "challenge")
    return Answer(text, TEXT) if isinstance(text, str) and len(text) <= _CHALLENGE_LIMIT else None


def _zoom(request: Request, key: bytes) -> Answer | None:
    if at(request.json(), "event") != "endpoint.url_validation":
        return None
    token = at(request.json(), "payload.plainToken")
    if not isinstance(token, str) or len(token) > _CHALLENGE_LIMIT:
        return None
    signed = hmac.new(key, token.encode(), hashlib.sha256).hexdigest()
    return Answer(json.dumps({"plainToken": token, "encryptedToken": signed}), JSON)


def reply(scheme: str, sentence: str) -> Answer | None:
    """To an event, where a publisher shows the answer to people: Teams takes a message only."""
    return Answer(json.dumps({"type": "message", "text": sentence}), JSON) if scheme == "microsoft_teams" else None
