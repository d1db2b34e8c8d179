"""Twilio signs the URL and the form's fields, or the URL with a hash of the body in it."""

import hashlib
import hmac
from urllib.parse import parse_qs

from orchestrator.core.webhook_triggers import SignatureFormat
from orchestrator.webhooks.request import FORM, Request, Unreadable, read_pairs
from orchestrator.webhooks.signatures import Claims


def compose(form: SignatureFormat, request: Request, claims: Claims) -> bytes:
    """The URL, and behind it every field by name: each name with each of its values, once.

    Raises:
        Unreadable: the body is not the one whose hash is in the URL, or nothing signs it.
    """
    hashes = parse_qs(request.url.partition("?")[2]).get("bodySHA256")
    if hashes is not None:
        own = hashlib.sha256(request.body).hexdigest()
        if len(hashes) != 1 or not hmac.compare_digest(own.encode(), hashes[0].encode(errors="surrogateescape")):
            raise Unreadable("the body is not the one whose hash is in the URL")
        return request.url.encode()
    return (request.url + "".join(name + value for name, value in _fields(request))).encode()


def _fields(request: Request) -> list[tuple[str, str]]:
    if not request.body:
        return []
    if (request.header("content-type") or "").partition(";")[0].strip().lower() != FORM:
        raise Unreadable("the body is no form, and the URL has no hash of it (bodySHA256)")
    return sorted(set(read_pairs(request.body, strict=True)))
