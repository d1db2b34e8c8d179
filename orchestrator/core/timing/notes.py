"""What people want to know of the next fires of a rule: the wall clock of its zone, and what a clock change does."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from orchestrator.core.timing.rules import Cron, Every, Timing

_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_MOST_WALLS: Final = 100
"""Walls of one gap that are looked at: more are told by the first and the last of these."""


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire: the scheduled time in UTC and on the wall of the rule's zone, and when its jitter lets it be due."""

    at: datetime
    wall: datetime
    zone: str
    due: datetime
    note: str


@dataclass(frozen=True, slots=True)
class _Change:
    """The clock goes from one offset to another at `at`: a gap when it is put forward, a fold when it is put back."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def walls(self) -> tuple[datetime, datetime]:
        """From and until: walls that do not exist, or exist twice."""
        ends = self.at.replace(tzinfo=None) + self.before, self.at.replace(tzinfo=None) + self.after
        return min(ends), max(ends)


def zone_of(rule: Cron | Every) -> str:
    """The zone on whose wall a rule is read; a fixed interval has none, and is shown in UTC."""
    return rule.tz if isinstance(rule, Cron) else "UTC"


def preview(timing: Timing, since: datetime, count: int, identity: str) -> list[Fire]:
    """The next fires after `since`, at most `count`."""
    return list(_fires(timing, since, count, identity))


def _fires(timing: Timing, since: datetime, count: int, identity: str) -> Iterator[Fire]:
    name, last = zone_of(timing.rule), since
    zone = ZoneInfo(name)
    for _ in range(count):
        at = timing.after(last)
        if at is None:
            return
        note = "; ".join(_notes(timing.rule, zone, last, at)) if isinstance(timing.rule, Cron) else ""
        yield Fire(at, at.astimezone(zone), name, at + timing.delay(identity, at), note)
        last = at


def _notes(rule: Cron, zone: tzinfo, since: datetime, at: datetime) -> Iterator[str]:
    naive = rule.model_copy(update={"tz": "UTC"})
    for change in _changes(zone, since, at):
        if change.after > change.before:
            yield from _gap(naive, change, at)
    wall = at.astimezone(zone)
    twin = wall.replace(fold=1 - wall.fold)
    if twin.utcoffset() == wall.utcoffset():
        return  # the clock shows it once
    word, other = ("second" if wall.fold else "first"), twin.astimezone(UTC)
    if rule.after(other - _SECOND) == other:
        yield f"{word} {_clock(wall)} of two"
    else:
        yield f"{_clock(wall)} comes twice, fires the {word} time only"


def _gap(naive: Cron, change: _Change, at: datetime) -> Iterator[str]:
    """What becomes of walls that the expression names and the zone leaves out."""
    start, end = change.walls
    walls: list[datetime] = []
    wall = _wall_after(naive, start - _SECOND)
    while wall is not None and wall < end and len(walls) < _MOST_WALLS:
        walls.append(wall)
        wall = _wall_after(naive, wall)
    if not walls:
        return
    names = _clock(walls[0]) if len(walls) == 1 else f"{_clock(walls[0])} to {_clock(walls[-1])}"
    verb = "does" if len(walls) == 1 else "do"
    on = f" on {end:%Y-%m-%d}"
    if at == change.at and _wall_after(naive, end - _SECOND) != end:
        yield f"{names} {verb} not exist{on}, fires at {_clock(end)}"
    else:
        yield f"{names} {verb} not exist{on}{'' if at == change.at else ', skipped'}"


def _wall_after(naive: Cron, wall: datetime) -> datetime | None:
    found = naive.after(wall.replace(tzinfo=UTC))
    return None if found is None else found.replace(tzinfo=None)


def _changes(zone: tzinfo, since: datetime, until: datetime) -> Iterator[_Change]:
    """The clock changes in (since, until], looked for a day at a time: no zone has two on one day."""
    start = since.astimezone(UTC).replace(microsecond=0)
    while start < until:
        end = min(start + _DAY, until)
        before, after = _offset(zone, start), _offset(zone, end)
        if before != after:
            low, high = start, end
            while high - low > _SECOND:
                middle = low + (high - low) // 2
                low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
            yield _Change(high.replace(microsecond=0), before, after)
        start = end


def _offset(zone: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _clock(wall: datetime) -> str:
    return wall.strftime("%H:%M:%S" if wall.second else "%H:%M")
