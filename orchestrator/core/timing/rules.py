"""The rules of schedules: what fires next after an instant."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from orchestrator.core.durations import Duration, DurationLike, format_duration
from orchestrator.core.timing import expression as cron
from orchestrator.core.timing import zones
from orchestrator.errors import ScheduleInvalid

Gap = Literal["auto", "skip", "next"]
Fold = Literal["auto", "first", "second", "both"]
_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = _EPOCH.replace(tzinfo=None)
_NEARBY: Final = timedelta(days=2)
"""Farther than any clock was ever set back or forward."""
_MANY: Final = 24
"""From this many fires a day on, counting by days is quicker."""


def _known_zone(name: str) -> str:
    zones.load(name)
    return name


def _known_expression(text: str) -> str:
    text = " ".join(text.split())
    cron.parse(text)
    return text


def parse_instant(value: object) -> datetime:
    """An aware datetime, or its ISO 8601 text with an offset, as UTC.

    Raises:
        ScheduleInvalid: it is not a point in time, has no offset, or lies before 1970.
    """
    fix = "write an aware datetime, or a string such as `2026-01-31T07:00:00+01:00` or `2026-01-31T06:00:00Z`."
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(found, datetime):
            raise ScheduleInvalid(f"{value!r:.60} is not a point in time. Fix: {fix}", value=repr(value)[:60])
        if found.utcoffset() is None:
            raise ScheduleInvalid(f"{value!s:.60} has no offset to UTC. Fix: {fix}", value=repr(value)[:60])
        found = found.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        if isinstance(exc, ScheduleInvalid):
            raise
        raise ScheduleInvalid(f"{value!r:.60} is not a point in time. Fix: {fix}", value=repr(value)[:60]) from exc
    if found < _EPOCH:
        raise ScheduleInvalid(f"{value!s:.60} lies before 1970. Fix: write a later time.", value=repr(value)[:60])
    return found


def _whole(value: datetime) -> datetime:
    if value.microsecond:
        raise ScheduleInvalid(f"{value} has a part of a second. Fix: write whole seconds.", value=str(value))
    return value


def _whole_interval(value: timedelta) -> timedelta:
    if value < _SECOND or value % _SECOND:
        text = format_duration(value)
        problem = f"The interval {text} is not whole seconds, from 1s on"
        raise ScheduleInvalid(f"{problem}. Fix: write `1s` or more.", value=text)
    return value


Zone = Annotated[str, AfterValidator(_known_zone)]
Expression = Annotated[str, AfterValidator(_known_expression)]
Instant = Annotated[datetime, BeforeValidator(parse_instant)]
WholeInstant = Annotated[Instant, AfterValidator(_whole)]
Interval = Annotated[Duration, AfterValidator(_whole_interval)]


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **data: object) -> None:
        try:
            super().__init__(**data)
        except ValidationError as exc:
            raise _first(type(self).__name__, exc) from exc


def _first(name: str, exc: ValidationError) -> ScheduleInvalid:
    error = exc.errors(include_url=False)[0]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ValueError) and hasattr(cause, "message"):
        return ScheduleInvalid(cause.message, value=str(error["input"])[:60])
    place = ".".join(str(part) for part in error["loc"])
    message = f"{name}: {place}: {error['msg']}, got {error['input']!r:.60}. Fix: correct it."
    return ScheduleInvalid(message, value=str(error["input"])[:60])


class Cron(_Rule):
    """Wall times in a zone: `Cron("0 7 * * 1-5", tz="Europe/Paris")`.

    Five fields (minute, hour, day of month, month, day of week) or a name such as `@daily`. Where both day fields
    are restricted, either may match; where one begins with `*`, both must.

    `gap`: for a wall time that a change of the clocks leaves out. `next` fires once at the moment the gap ends,
    `skip` does not fire. `fold`: for a wall time that exists twice. `auto` takes the hours as they come when the
    hour is left open (`*`, `*/n`: skip, both), and a named hour once a day (next, first).
    """

    expression: Expression
    tz: Zone = "UTC"
    gap: Gap = "auto"
    fold: Fold = "auto"

    def __init__(self, expression: str, tz: str = "UTC", *, gap: Gap = "auto", fold: Fold = "auto") -> None:
        """
        Raises:
            ScheduleInvalid: the zone is unknown, the expression is invalid, or it never fires.
        """
        super().__init__(expression=expression, tz=tz, gap=gap, fold=fold)

    def after(self, instant: datetime) -> datetime | None:
        """The first fire after `instant`; None: never again."""
        found = self._after_or_none(_naive(instant))
        return found.replace(tzinfo=UTC) if found is not None else None

    def _after_or_none(self, instant: datetime) -> datetime | None:
        try:
            return self._after(instant)
        except OverflowError:  # past the year 9999
            return None

    def _after(self, instant: datetime) -> datetime | None:
        """Walk the periods of the zone; the expression is asked again only where the wall jumps over its match."""
        fills_gap, passes = _clock_rules(self.expression, self.gap, self.fold)
        period = zones.period(self.tz, instant)
        low = instant + period.offset
        wall = cron.first_after(self.expression, low)
        while wall is not None:
            found = wall - period.offset
            if found < period.end:
                if passes == "both" or zones.is_repeated(self.tz, wall, period.offset) in {None, passes}:
                    return found
                low = wall
                wall = cron.first_after(self.expression, low)
                continue
            period = zones.period(self.tz, period.end)
            first_wall = period.start + period.offset
            if wall < first_wall and fills_gap:
                return period.start
            if wall < first_wall or first_wall <= low:
                low = first_wall - _SECOND
                wall = cron.first_after(self.expression, low)
        return None

    def count(self, since: datetime, until: datetime, limit: int) -> int:
        """How many fires are in (since, until], at most `limit`. Whole days are counted at once, or a year of minutes
        would take seconds."""
        at, end = _naive(since), _naive(until)
        total = 0
        while total < limit and (found := self._after_or_none(at)) is not None and found <= end:
            fires, at = self._days_from(at, found, end) or (1, found)
            total += fires
        return min(total, limit)

    def _days_from(self, at: datetime, found: datetime, end: datetime) -> tuple[int, datetime] | None:
        """The fires of the whole days from the day of `found` on, and the last second of them, where `at` lies before
        that day and the clocks do not change nearby."""
        parsed = cron.parse(self.expression)
        per_day = len(parsed.hours) * len(parsed.minutes)
        period = zones.period(self.tz, found)
        first = datetime.combine((found + period.offset).date(), time())
        last = datetime.combine((min(end, period.end - _NEARBY) + period.offset).date(), time())
        if per_day < _MANY or at + period.offset >= first or first - period.offset < period.start + _NEARBY:
            return None
        days = [first + timedelta(days=n) for n in range((last - first).days)]
        fires = per_day * sum(day.month in parsed.months and parsed.match_day(day) for day in days)
        return (fires, last - period.offset - _SECOND) if days else None


@lru_cache(maxsize=4096)
def _clock_rules(expression: str, gap: Gap, fold: Fold) -> tuple[bool, str]:
    """Whether a gap is made up for, and which of two equal wall times fire."""
    every_hour = cron.every_hour(expression)
    if gap == "auto":
        gap = "skip" if every_hour else "next"
    if fold == "auto":
        fold = "both" if every_hour else "first"
    return gap == "next", fold


class Every(_Rule):
    """A fixed interval, counted from `anchor` (1970 when there is none): no drift, the same in every process.

    The anchor sets the phase only; what fires before it too is held back with `start`.
    """

    interval: Interval
    anchor: WholeInstant | None = None

    def __init__(self, interval: DurationLike, anchor: datetime | str | None = None) -> None:
        """
        Raises:
            ScheduleInvalid: not whole seconds, or an anchor without an offset.
        """
        super().__init__(interval=interval, anchor=anchor)

    def after(self, instant: datetime) -> datetime | None:
        """The first fire after `instant`; None: never again."""
        anchor = self.anchor or _EPOCH
        try:
            return anchor + ((instant - anchor) // self.interval + 1) * self.interval
        except OverflowError:  # past the year 9999
            return None

    def count(self, since: datetime, until: datetime, limit: int) -> int:
        """How many fires are in (since, until], at most `limit`."""
        anchor = self.anchor or _EPOCH
        return max(0, min(limit, (until - anchor) // self.interval - (since - anchor) // self.interval))


Rule = Cron | Every


@dataclass(frozen=True, slots=True)
class Timing:
    """A rule with its bounds."""

    rule: Rule
    jitter: timedelta = timedelta(0)
    start: datetime | None = None
    end: datetime | None = None

    def after(self, instant: datetime) -> datetime | None:
        """The first fire after `instant` within [start, end); None: never again."""
        if self.start is not None and instant < self.start:
            instant = self.start - _MICROSECOND
        found = self.rule.after(instant)
        return None if found is None or (self.end is not None and found >= self.end) else found

    def between(self, since: datetime, until: datetime, limit: int) -> list[datetime]:
        """The first `limit` fires in (since, until]."""
        found: list[datetime] = []
        while len(found) < limit and (fire := self.after(since)) is not None and fire <= until:
            found.append(fire)
            since = fire
        return found

    def count(self, since: datetime, until: datetime, limit: int) -> int:
        """How many fires are in (since, until], at most `limit`."""
        if self.start is not None:
            since = max(since, self.start - _MICROSECOND)
        if self.end is not None:
            until = min(until, self.end - _MICROSECOND)
        return self.rule.count(since, until, limit) if since < until else 0

    def last(self, since: datetime, until: datetime) -> datetime | None:
        """The last fire in (since, until], found by halving: it costs the same however many there are."""
        back, low = timedelta(minutes=1), None
        while low is None and until - back > since:
            low, back = self._within(until - back, until), back * 4
        if low is None and (low := self._within(since, until)) is None:
            return None
        high = until
        while (after := self._within(low, high)) is not None:
            middle = self._within(low + (high - low) / 2, high)
            low, high = (middle, high) if middle is not None else (after, low + (high - low) / 2)
        return low

    def _within(self, since: datetime, until: datetime) -> datetime | None:
        found = self.after(since)
        return found if found is not None and found <= until else None

    def delay(self, identity: str, scheduled: datetime) -> timedelta:
        """The jitter of one fire, in [0, jitter): the same for everyone who asks."""
        if not self.jitter:
            return timedelta(0)
        text = f"{identity} {scheduled.astimezone(UTC).isoformat()}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return number % (self.jitter // _MICROSECOND) * _MICROSECOND


def _naive(instant: datetime) -> datetime:
    return _NAIVE_EPOCH + (instant - _EPOCH) // _SECOND * _SECOND  # TypeError for a naive one
