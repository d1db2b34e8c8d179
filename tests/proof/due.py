"""When a schedule has to fire, by brute force: every second, or every minute, is asked. Nothing of the engine's way."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from tests.proof.history import SECOND

_LENGTH: Final = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?$")
_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_LONGEST: Final = 10 * 24 * 3600
"""A scan of more seconds is a mistake of the caller."""


def length_ns(text: str | None) -> int:
    """Of `PT1M0.5S`; 0 of None."""
    if text is None:
        return 0
    match = _LENGTH.match(text)
    assert match is not None, f"{text!r} is not a length of time"
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return int((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * SECOND)


def due_times(trigger: Mapping[str, Any], expression: str | None, since_ns: int, until_ns: int) -> list[int]:
    """The scheduled times in [since, until), in nanoseconds since 1970; `expression` is an operator's."""
    first, last = -(-since_ns // SECOND), -(-until_ns // SECOND)
    assert last - first <= _LONGEST, "too long for a scan"
    low, high = _bound(trigger.get("start"), 0), _bound(trigger.get("end"), 2**62)
    return [
        at * SECOND
        for at in range(first, last)
        if low <= at < high and (_every(trigger, at) if expression is None else _cron(expression, at))
    ]


def _every(trigger: Mapping[str, Any], at: int) -> bool:
    """Whether the rule of the code names this second."""
    if trigger["type"] == "every":
        return (at - _bound(trigger.get("anchor"), 0)) % (length_ns(trigger["interval"]) // SECOND) == 0
    assert trigger.get("zone", "UTC") == "UTC", "other zones are not known here"
    return _cron(trigger["expression"], at)


def _bound(text: str | None, default: int) -> int:
    return default if text is None else int(datetime.fromisoformat(text).timestamp())


def _cron(expression: str, at: int) -> bool:
    """Five fields of `*`, `*/n`, numbers, ranges and lists, in UTC; one of the two day fields is open."""
    if at % 60:
        return False
    wall = datetime.fromtimestamp(at, UTC)
    shown = (wall.minute, wall.hour, wall.day, wall.month, wall.isoweekday() % 7)
    return all(value in allowed for value, allowed in zip(shown, _parsed(expression), strict=True))


@lru_cache
def _parsed(expression: str) -> tuple[frozenset[int], ...]:
    fields = expression.split()
    assert len(fields) == 5, f"{expression!r} is not known here"
    assert "*" in (fields[2], fields[4]), f"{expression!r}: both days are not known here"
    return tuple(_field(text, *bounds) for text, bounds in zip(fields, _RANGES, strict=True))


def _field(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = (span if span != "*" else f"{low}-{high}").partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return frozenset(found)
