"""How the text of one environment variable becomes a value; what cannot be read raises ValueError with the fix."""

import json
import re
from datetime import timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from orchestrator.core.durations import parse_duration
from orchestrator.core.listen_address import ListenAddress
from orchestrator.core.loopback import is_loopback
from orchestrator.core.payload import StoreUrl

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:.]+\](:\d{1,5})?")


def secret(normalise: Any) -> BeforeValidator:
    """A check for a text that no message shows, put into its usual form by `normalise`."""

    def check(value: object) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        return SecretStr(normalise(text)) if isinstance(text, str) else text

    return BeforeValidator(check)


def _duration(value: object) -> object:
    try:
        duration = parse_duration(value)
    except ValueError:
        raise ValueError("it is not a length of time. Fix: write 500ms, 30s, 5m, 1h, PT90S or plain seconds") from None
    if duration <= timedelta(0):
        raise ValueError("it must be more than zero. Fix: write 500ms, 30s, 5m, 1h, PT90S or plain seconds")
    return duration


def _flag(value: object) -> object:
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("it is neither true nor false. Fix: write true or false")


def _whole(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?\d+\s*", value):
        raise ValueError("it is not a whole number. Fix: write digits only")
    return int(value) if isinstance(value, str) else value


def names(value: object) -> object:
    """A list of words, comma separated."""
    if isinstance(value, str):
        return tuple(name for name in (part.strip() for part in value.split(",")) if name)
    return value


def store(value: str) -> str:
    """The address of a payload store."""
    return StoreUrl.read(value).text


def listen_address(value: str) -> str:
    """Where a process listens, as :8081."""
    return str(ListenAddress.read(value))


def origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """Origins of browsers, as https://tools.example.com."""
    for value in values:
        if not _ORIGIN.fullmatch(value):
            raise ValueError(f"{value!r} is not an origin. Fix: write https://tools.example.com, without a path")
    return values


def json_object(value: object) -> object:
    """An object in JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as exc:
        raise ValueError(f'it is not JSON ({exc}). Fix: write an object such as {{"master_name": "main"}}') from exc


def json_or_flag(value: object) -> object:
    """An object in JSON, or a flag."""
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return _flag(value)
    return json_object(value)


def upper(value: object) -> object:
    """A word in capitals."""
    return value.strip().upper() if isinstance(value, str) else value


def lower(value: object) -> object:
    """A word in small letters."""
    return value.strip().lower() if isinstance(value, str) else value


def issuer(value: str) -> str:
    """A provider of identities."""
    parts = urlsplit(value)
    private = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    if not private or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("it is not an https address. Fix: write it as the provider's discovery document has it")
    return value


def scopes(values: tuple[str, ...]) -> tuple[str, ...]:
    """Those of OpenID Connect."""
    return tuple(dict.fromkeys(("openid", *values)))


Claim = Annotated[str, Field(min_length=1, max_length=200)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, BeforeValidator(_whole)]
Port = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=65535)]
