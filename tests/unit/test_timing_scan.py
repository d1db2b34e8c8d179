"""When cron rules fire, against a scan of every minute around the changes of the clocks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.core.timing import Cron, Timing
from orchestrator.errors import ScheduleInvalid

ZONES = [
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",  # half an hour
    "Asia/Kathmandu",  # +05:30 to +05:45 in 1986
    "America/Sao_Paulo",  # at midnight, until 2019
    "Africa/Casablanca",  # four changes a year around Ramadan
    "Asia/Tehran",  # until 2022
    "Pacific/Apia",  # without 30 December 2011
    "Europe/Dublin",  # negative summer time
    "America/St_Johns",  # at 00:01 until 2011
    "America/Caracas",  # half an hour back in 2007, forth in 2016
    "Antarctica/Troll",  # two hours
    "Pacific/Kwajalein",  # without 21 August 1993
]
MINUTE, HALF_DAY, DAY = timedelta(minutes=1), timedelta(hours=12), timedelta(days=1)
EDGE = timedelta(hours=3)
"""Of a scanned window, where the other half of a repeated hour may lie outside."""


# ---- the scan: every minute is looked at, the wall clock is the zone's, nothing is shared with the rules ------------


@dataclass(frozen=True)
class Minute:
    at: datetime
    wall: datetime
    which: str  # once, first or second
    left_out: tuple[datetime, ...]  # walls that the clock jumped over to get here


@cache
def changes(zone: str) -> list[datetime]:
    """The whole minutes from 1980 to 2037 at which the offset of a zone changes."""
    tz, found = ZoneInfo(zone), []
    at, offset = datetime(1980, 1, 1, tzinfo=UTC), None
    while at.year < 2038:
        now = at.astimezone(tz).utcoffset()
        if offset is not None and now != offset:
            minutes = (at - timedelta(hours=6) + n * MINUTE for n in range(361))
            found.append(next(m for m in minutes if m.astimezone(tz).utcoffset() != offset))
        at, offset = at + timedelta(hours=6), now
    return found


@cache
def scanned(zone: str, start: datetime, end: datetime) -> list[Minute]:
    tz = ZoneInfo(zone)
    instants = [start + n * MINUTE for n in range((end - start) // MINUTE)]
    walls = [at.astimezone(tz).replace(tzinfo=None, fold=0) for at in instants]
    seen, total = Counter[datetime](), Counter(walls)
    minutes, before = [], walls[0] - MINUTE
    for at, wall in zip(instants, walls, strict=True):
        seen[wall] += 1
        which = "once" if total[wall] == 1 else "first" if seen[wall] == 1 else "second"
        left_out = tuple(before + n * MINUTE for n in range(1, max(1, (wall - before) // MINUTE)))
        minutes.append(Minute(at, wall, which, left_out))
        before = wall
    return minutes


@dataclass(frozen=True)
class Field:
    text: str
    values: frozenset[int]


@dataclass(frozen=True)
class Fields:
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def text(self) -> str:
        return " ".join(field.text for field in (self.minute, self.hour, self.day, self.month, self.weekday))

    def match(self, wall: datetime) -> bool:
        return wall.minute in self.minute.values and wall.hour in self.hour.values and self.has_day(wall)

    def has_day(self, wall: datetime) -> bool:
        day = wall.day in self.day.values
        weekday = bool({wall.isoweekday(), wall.isoweekday() % 7} & self.weekday.values)
        both = self.day.text.startswith("*") or self.weekday.text.startswith("*")
        return wall.month in self.month.values and (day and weekday if both else day or weekday)


def brute(fields: Fields, gap: str, fold: str, minutes: list[Minute]) -> Iterator[datetime]:
    open_hour = fields.hour.text.startswith("*") or fields.hour.values == frozenset(range(24))
    gap = {"auto": "skip" if open_hour else "next"}.get(gap, gap)
    fold = {"auto": "both" if open_hour else "first"}.get(fold, fold)
    for minute in minutes:
        itself = fields.match(minute.wall) and (fold == "both" or minute.which in {"once", fold})
        if itself or (gap == "next" and any(map(fields.match, minute.left_out))):
            yield minute.at


def some(low: int, high: int) -> st.SearchStrategy[Field]:
    whole = range(low, high + 1)
    one = st.integers(low, high)
    step = st.integers(1, high)
    span = st.tuples(one, one).map(sorted)
    return st.one_of(
        st.just(Field("*", frozenset(whole))),
        step.map(lambda n: Field(f"*/{n}", frozenset(whole[::n]))),
        one.map(lambda n: Field(str(n), frozenset({n}))),
        st.lists(one, min_size=2, max_size=4).map(lambda ns: Field(",".join(map(str, ns)), frozenset(ns))),
        span.map(lambda s: Field(f"{s[0]}-{s[1]}", frozenset(range(s[0], s[1] + 1)))),
        st.tuples(span, step).map(
            lambda p: (
                Field(f"{p[0][0]}-{p[0][1]}/{p[1]}", frozenset(range(p[0][0], p[0][1] + 1, p[1])))
                if p[0][0] < p[0][1]
                else Field(str(p[0][0]), frozenset({p[0][0]}))
            )  # `5-5/2` means `5/2` here and nothing elsewhere
        ),
    )


LEAP_CYCLES = [datetime(2000, 1, 1, tzinfo=UTC) + n * DAY for n in range(40 * 366)]
EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY = (Field("*", frozenset(range(a, b))) for a, b in ((1, 32), (1, 13), (0, 8)))
NIGHT = st.one_of(some(0, 23), st.integers(0, 3).map(lambda n: Field(str(n), frozenset({n}))))
TIMES = st.builds(Fields, some(0, 59), NIGHT, st.just(EVERY_DAY), st.just(EVERY_MONTH), st.just(EVERY_WEEKDAY))
DAYS = st.builds(Fields, some(0, 59), some(0, 23), some(1, 31), some(1, 12), some(0, 7))
GAPS, FOLDS = st.sampled_from(["auto", "skip", "next"]), st.sampled_from(["auto", "first", "second", "both"])


def compare(zone: str, start: datetime, end: datetime, fields: Fields, gap: str, fold: str) -> None:
    try:
        rule = Cron(fields.text, tz=zone, gap=gap, fold=fold)
    except ScheduleInvalid as exc:
        refusal = exc.message
    else:
        refusal = None
    if refusal is not None:
        assert "never fires" in refusal
        assert not any(map(fields.has_day, LEAP_CYCLES))
        return
    scan = [at for at in brute(fields, gap, fold, scanned(zone, start, end)) if start + EDGE < at <= end - EDGE]
    timing = Timing(rule)
    assert timing.between(start + EDGE, end - EDGE, 10_000) == scan
    assert timing.count(start + EDGE, end - EDGE, 10_000) == len(scan)
    assert timing.last(start + EDGE, end - EDGE) == (scan[-1] if scan else None)


@st.composite
def at_a_change(draw) -> tuple[str, datetime, datetime]:
    zone = draw(st.sampled_from(ZONES))
    change = draw(st.sampled_from(changes(zone)))
    return zone, change - HALF_DAY, change + HALF_DAY


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(at_a_change(), TIMES, GAPS, FOLDS)
def test_fires_around_a_change_of_the_clocks_are_those_of_the_scan(window, fields, gap, fold):
    compare(*window, fields, gap, fold)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(at_a_change(), DAYS, GAPS, FOLDS)
def test_fires_of_days_and_months_are_those_of_the_scan(window, fields, gap, fold):
    zone, start, end = window
    compare(zone, start - DAY, end + 2 * DAY, fields, gap, fold)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("times", ["* * * * *", "0 * * * *", "*/15 * * * *", "30 2 * * *", "0 0 * * *", "1 0-3 * * *"])
def test_every_change_of_every_zone_is_that_of_the_scan(zone, times):
    minute, hour, *_ = (read(text, top) for text, top in zip(times.split()[:2], (59, 23), strict=True))
    fields = Fields(minute, hour, EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY)
    assert changes(zone)
    for change in changes(zone)[-6:]:
        compare(zone, change - HALF_DAY, change + HALF_DAY, fields, "auto", "auto")


def read(text: str, top: int) -> Field:
    whole, _, step = text.partition("/")
    low, _, high = whole.partition("-")
    values = range(top + 1) if whole == "*" else range(int(low), int(high or low) + 1)
    return Field(text, frozenset(values[:: int(step or 1)]))


def test_the_zones_have_the_changes_they_are_chosen_for():
    def sizes(zone: str) -> set[timedelta]:
        tz = ZoneInfo(zone)
        ends = [(at - MINUTE, at) for at in changes(zone)]
        return {b.astimezone(tz).utcoffset() - a.astimezone(tz).utcoffset() for a, b in ends}  # type: ignore[operator]

    hour = timedelta(hours=1)
    assert sizes("Europe/Paris") == {hour, -hour}
    assert sizes("Australia/Lord_Howe") >= {hour / 2, -hour / 2}
    assert sizes("Asia/Kathmandu") == {hour / 4}
    assert sizes("Pacific/Apia") >= {DAY, hour, -hour}
    assert sizes("Antarctica/Troll") >= {2 * hour, -2 * hour}
    assert len(changes("America/Sao_Paulo")) > 40
    assert len(changes("Africa/Casablanca")) > 40
