"""Lengths of time, as people write them and as JSON holds them (ISO 8601)."""

import math
import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from orchestrator.errors import DurationInvalid

_UNITS_US: Final = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)\s*", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_ISO: Final = TypeAdapter(timedelta)
_LONGEST: Final = timedelta(days=36_500)

DurationLike = str | int | float | timedelta
"""`"30s"`, `"1h30m"`, `"500ms"`, ISO 8601 (`"PT90S"`), a number of seconds, or a timedelta."""


def parse_duration(value: object) -> timedelta:
    """The length of time that `value` (a `DurationLike`) means; zero is allowed, a negative length is not.

    Raises:
        DurationInvalid: it is none of those forms, negative, not finite, or over 100 years. Also a ValueError,
            so it can be a pydantic validator.
    """
    try:
        found = _parse(value)
    except OverflowError:
        found = None
    if found is None or not timedelta(0) <= found <= _LONGEST:
        raise DurationInvalid(
            f"{_shown(value)} is not a length of time. Fix: write `30s`, `5m`, `1h30m`, `500ms`, `PT90S` "
            f"or a number of seconds, from 0 to 100 years.",
            value=_shown(value),
        )
    return found


def _parse(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return _parse_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return timedelta(seconds=value)


def _parse_text(text: str) -> timedelta | None:
    if len(text) > 100:
        return None
    if _NUMBER.fullmatch(text):
        return timedelta(seconds=float(text))
    if text[:1] in {"P", "p"}:
        return _parse_iso(text)
    total_us, end = 0.0, 0
    while part := _PART.match(text, end):
        total_us, end = total_us + float(part[1]) * _UNITS_US[part[2]], part.end()
    return timedelta(microseconds=total_us) if end and end == len(text) else None


def _parse_iso(text: str) -> timedelta | None:
    try:
        return _ISO.validate_python(text)
    except ValidationError:
        return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def format_duration(value: timedelta) -> str:
    """The short form, exact and read back by `parse_duration`: `1h30m`, `250ms`, `0s`."""
    rest = value // timedelta(microseconds=1)
    if rest < 0:
        return "-" + format_duration(-value)
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS_US[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A pydantic field that takes any `DurationLike`."""
