"""Time zones as periods of one offset to UTC. Inside, instants and wall times are naive, which is quick.

A period ends where the offset changes, and at the end of a (UTC) year, so that zones without changes have short ones.
"""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from orchestrator.core.suggest import closest
from orchestrator.errors import ScheduleInvalid

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_NOT_A_PLACE: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Files of the database that mean something else on each machine, or nothing."""


class Period(NamedTuple):
    """`offset` holds from `start` to before `end`; all of it naive UTC."""

    start: datetime
    end: datetime
    offset: timedelta


@lru_cache(maxsize=1024)
def load(name: str) -> ZoneInfo:
    """
    Raises:
        ScheduleInvalid: there is no such zone.
    """
    if name not in _NOT_A_PLACE and not name.startswith(("posix/", "right/")):
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):  # KeyError: ZoneInfoNotFoundError; OSError: a folder such as `America`
            pass
    match = closest(name, available_timezones() - _NOT_A_PLACE)
    hint = f"did you mean `{match}`?" if match else "write an IANA name such as `Europe/Paris`, or `UTC`."
    raise ScheduleInvalid(f"There is no time zone `{name}`. Fix: {hint}", value=name)


def period(name: str, instant: datetime) -> Period:
    """The period that holds `instant` (naive UTC)."""
    of_year = _periods(name, instant.year)
    return of_year[bisect_right(of_year, instant, key=_start) - 1]


def _start(period: Period) -> datetime:
    return period.start


@lru_cache(maxsize=8192)
def _periods(name: str, year: int) -> tuple[Period, ...]:
    zone = load(name)
    start = datetime(year, 1, 1)  # noqa: DTZ001 - naive UTC
    end = start.replace(year=year + 1) if year < 9999 else datetime.max  # noqa: DTZ901
    edges = [start, *_changes(zone, start, end), end]
    return tuple(Period(a, b, offset_at(zone, a)) for a, b in pairwise(edges))


def _changes(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """Instants in (start, end) from which another offset holds. No zone ever changed twice in one day."""
    low, offset = start, offset_at(zone, start)
    while low < end:
        high = min(low + _DAY, end - _SECOND)
        if offset_at(zone, high) != offset:
            change = _first_with_another(zone, low, high)
            yield change
            offset = offset_at(zone, change)
        if high == end - _SECOND:
            return
        low = high


def _first_with_another(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Where in (low, high] the offset changes."""
    old = offset_at(zone, low)
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        low, high = (middle, high) if offset_at(zone, middle) == old else (low, middle)
    return high


def offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    """What is added to `instant` (naive UTC) for the wall time."""
    return instant.replace(tzinfo=UTC).astimezone(zone).utcoffset() or timedelta(0)


def is_repeated(name: str, wall: datetime, offset: timedelta) -> str | None:
    """`first` or `second` for a wall time that exists twice, when `offset` is the one it was reached with."""
    zone = load(name)
    first = wall.replace(tzinfo=zone, fold=0).utcoffset()
    second = wall.replace(tzinfo=zone, fold=1).utcoffset()
    if first == second:
        return None
    return "first" if offset == first else "second"
