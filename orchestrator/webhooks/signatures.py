"""What a delivery claims, and whether one of our keys proves it."""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from orchestrator.core.webhook_triggers import SignatureFormat
from orchestrator.webhooks.request import Request, Unreadable, at

CANDIDATES: Final = 8
"""Signatures that one delivery may bring."""
ID_LIMIT: Final = 255
_DIGITS: Final = re.compile(r"[0-9]{1,13}", re.ASCII)
_PART: Final = re.compile(r"\{([^{}]*)\}")

Encode = Callable[[bytes], bytes]
_ENCODE: Final[Mapping[str, Encode]] = MappingProxyType({"hex": binascii.hexlify, "base64": base64.b64encode})


class SecretUnusable(Exception):
    """A secret is empty, or not written as its scheme has it. Never quotes it."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a delivery claims: the bytes that were signed, its signatures as they were written, when it was signed, its
    id, and a digest of what it says, which stays the same when the sender tries again."""

    content: bytes = field(repr=False)
    signatures: tuple[bytes, ...] = field(repr=False)
    time: datetime | None
    id: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What stands in the request before anything is proved."""

    texts: tuple[str, ...] = field(repr=False)
    time_text: str | None
    id: str | None


Compose = Callable[[SignatureFormat, Request, Claims], bytes]
"""The bytes that were signed."""


def compose(form: SignatureFormat, request: Request, claims: Claims) -> bytes:
    """As the format's `content` says."""
    return b"".join(
        _part(piece, request, claims) if place % 2 else piece.encode()
        for place, piece in enumerate(_PART.split(form.content))
    )


def _part(name: str, request: Request, claims: Claims) -> bytes:
    if name == "body":
        return request.body
    if name.startswith("header:"):
        return (request.header(name.removeprefix("header:")) or "").encode()
    known = {"time": claims.time_text, "id": claims.id, "url": request.url, "method": request.method}
    return (known[name] or "").encode()


def read(form: SignatureFormat, request: Request, composed: Compose = compose) -> Signed:
    """What the request claims.

    Raises:
        Unreadable: it has no signature, too many, or not the form that the scheme has.
    """
    claims = _claims(form, request)
    content = composed(form, request, claims)
    return Signed(
        content,
        tuple(text.encode(errors="surrogateescape") for text in claims.texts),
        _time(form, claims.time_text),
        claims.id,
        # Where not the bytes of the body are signed, but what they say, other bytes may say the same.
        _digest(form, request) if composed is compose else hashlib.sha256(content).hexdigest(),
    )


def _claims(form: SignatureFormat, request: Request) -> Claims:
    pairs = _pairs(form, request)
    texts = _signatures(form, request, pairs)
    time = None if form.time is None else _at(form.time, request, pairs)
    if form.time is not None and time is None:
        raise Unreadable(f"it has no time ({form.time})")
    id = None if form.id is None else _at(form.id, request, pairs)
    if id is None and ("{id}" in form.content or not form.signs_body):
        raise Unreadable(f"it has no id ({form.id})")
    if id is not None and not 1 <= len(id) <= ID_LIMIT:
        raise Unreadable(f"its id has {len(id)} characters, and 1 to {ID_LIMIT} are taken")
    return Claims(texts, time, id)


def _signatures(form: SignatureFormat, request: Request, pairs: Mapping[str, list[str]]) -> tuple[str, ...]:
    if form.field is not None:
        found = pairs.get(form.field, [])
    else:
        text = _at(form.signature, request, pairs)
        found = [] if text is None else text.split(form.separator) if form.separator else [text]
    found = [one.strip().removeprefix(form.prefix) for one in found if one.strip().startswith(form.prefix)]
    found = [one for one in found if one]
    if not found:
        wanted = f"{form.signature}{f', {form.field}=' if form.field else ''}"
        raise Unreadable(f"it has no signature ({wanted}{f' {form.prefix}…' if form.prefix else ''})")
    if len(found) > CANDIDATES:
        raise Unreadable(f"it has {len(found)} signatures, and {CANDIDATES} are looked at")
    return tuple(found)


def _pairs(form: SignatureFormat, request: Request) -> Mapping[str, list[str]]:
    """Of a header such as `t=1,v1=ab,v1=cd`."""
    found: dict[str, list[str]] = {}
    if form.field is not None:
        for part in (request.header(form.signature.removeprefix("header:")) or "").split(","):
            name, _, value = part.strip().partition("=")
            found.setdefault(name, []).append(value)
    return found


def _at(place: str, request: Request, pairs: Mapping[str, list[str]]) -> str | None:
    kind, _, name = place.partition(":")
    if kind == "header":
        return request.header(name) or None
    if kind == "field":
        values = pairs.get(name, [])
        if len(values) > 1:
            raise Unreadable(f"`{name}=` came {len(values)} times")
        return values[0] if values else None
    value = at(request.json(), name)
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Unreadable(f"`{name}` in the body is neither a text nor a whole number")


def _time(form: SignatureFormat, text: str | None) -> datetime | None:
    if text is None:
        return None
    if not _DIGITS.fullmatch(text):
        raise Unreadable("its time is not a count of seconds or milliseconds")
    try:
        return datetime.fromtimestamp(int(text) / (1000 if form.time_unit == "ms" else 1), UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise Unreadable("its time is out of all bounds") from exc


def _digest(form: SignatureFormat, request: Request) -> str:
    """Of the body, without the time at which it was signed: a sender that tries again signs anew."""
    body = request.body
    if form.time is not None and form.time.startswith("body:") and form.signs_body:
        body = json.dumps(_without(request.json(), form.time.removeprefix("body:")), sort_keys=True).encode()
    url = request.url.encode() if "{url}" in form.content else b""
    return hashlib.sha256(url + b"\0" + body).hexdigest()


def _without(value: Any, path: str) -> Any:
    name, _, rest = path.partition(".")
    if not isinstance(value, dict) or name not in value:
        return value
    if rest:
        return {**value, name: _without(value[name], rest)}
    return {other: one for other, one in value.items() if other != name}


# ---- keys ------------------------------------------------------------------------------------------------------


def key_of(form: SignatureFormat, secret: str) -> bytes:
    """The key that a secret is written for.

    Raises:
        SecretUnusable: it is empty, or not base64 or hex where the scheme has that.
    """
    text = secret.strip().removeprefix(form.key_prefix)
    try:
        match form.key:
            case "text":
                key = text.encode()
            case "base64":
                key = base64.b64decode(text, validate=True)
            case "hex":
                key = bytes.fromhex(text)
    except (ValueError, binascii.Error):
        raise SecretUnusable(f"the secret is not {form.key}") from None
    if not key:
        raise SecretUnusable("the secret is empty")
    return key


def mac(form: SignatureFormat, content: bytes, key: bytes) -> bytes:
    """The signature of these bytes, as it is written, without a prefix."""
    return _ENCODE[form.encoding](hmac.new(key, content, form.algorithm).digest())


def proving_key(form: SignatureFormat, signed: Signed, keys: Sequence[bytes]) -> int | None:
    """Which of the keys made one of the signatures; None: none of them. Every key is tried on every signature, so that
    the time it takes tells nothing."""
    found: int | None = None
    for place in reversed(range(len(keys))):
        expected = mac(form, signed.content, keys[place])
        for candidate in signed.signatures:
            if hmac.compare_digest(expected, candidate):
                found = place
    return found
