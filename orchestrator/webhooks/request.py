"""One delivery, as it came in."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qsl

from orchestrator.core import values

HEADER_LIMIT: Final = 8192
"""Characters of a header that is looked at."""
FORM: Final = "application/x-www-form-urlencoded"
_FIELDS: Final = 10_000
"""Fields of a form that are read."""
_NO_TEXT: Final = re.compile(r"%(?:00|(?![0-9a-fA-F]{2}))")
"""NUL, and what no program writes. Found before a body full of them is taken apart, which would take long."""


class Unreadable(Exception):
    """The request has not what is looked for, or has it twice; says what, without its value."""


@dataclass(frozen=True)
class Request:
    """`url` is the one that the sender called, with its query; header names are in small letters, each as often as it
    came. `address` is the client's, None when it cannot be told."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    address: str | None = None

    @classmethod
    def of(
        cls,
        body: bytes,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        url: str = "",
        method: str = "POST",
        address: str | None = None,
    ) -> "Request":
        """With header names in any case."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        return cls(method, url, tuple((name.lower(), value) for name, value in pairs), body, address)

    def header(self, name: str) -> str | None:
        """The only header of that name.

        Raises:
            Unreadable: it came several times, or is very long.
        """
        found = [value for one, value in self.headers if one == name.lower()]
        if len(found) > 1:
            raise Unreadable(f"the header {name} came {len(found)} times")
        if found and len(found[0]) > HEADER_LIMIT:
            raise Unreadable(f"the header {name} has more than {HEADER_LIMIT} characters")
        return found[0].strip() if found else None

    @cached_property
    def _json(self) -> Any:
        return read_json(self.body)

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            Unreadable: it is none, or holds what cannot be stored.
        """
        return self._json


def read_json(body: bytes) -> Any:
    """
    Raises:
        Unreadable: it is not JSON, has a name twice, or holds what cannot be stored.
    """
    try:
        text = body.decode()
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_not_json, parse_int=_whole)
    except UnicodeDecodeError as exc:
        raise Unreadable("the body is not UTF-8") from exc
    except RecursionError as exc:
        raise Unreadable("the body is nested too deep") from exc
    except ValueError as exc:
        raise Unreadable(f"the body is not JSON: {exc}") from exc
    refused = values.refusal(value) if values.suspect(text) else None
    if refused is not None:
        raise Unreadable(f"the body holds {refused.problem}, which cannot be stored")
    return value


def read_pairs(body: bytes, *, strict: bool = False) -> list[tuple[str, str]]:
    """The fields of a form, as they come; `strict`: each has an `=`.

    Raises:
        Unreadable: it is no form.
    """
    try:
        text = body.decode("ascii")
        if _NO_TEXT.search(text):
            raise Unreadable("the body is not a form: a `%` in it begins no character, or is a NUL")
        return parse_qsl(text, keep_blank_values=True, strict_parsing=strict, errors="strict", max_num_fields=_FIELDS)
    except ValueError as exc:
        raise Unreadable("the body is not a form") from exc


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of the same text could take different ones of two values of a name."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _not_json(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _whole(text: str) -> int:
    if len(text) > 400:
        raise ValueError("a number has more than 400 digits")
    return int(text)


def at(value: Any, path: str) -> Any:
    """What stands at `a.b` in a JSON value; None where there is nothing."""
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value
