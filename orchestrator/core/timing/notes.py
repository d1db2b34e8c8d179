"""What people want to know of the next fires of a rule: the wall clock of its zone, and what a clock change does."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from orchestrator.core.timing import expression, zones
from orchestrator.core.timing.rules import Cron, Rule, Timing

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire: the scheduled time in UTC and on the wall of the rule's zone, and when its jitter lets it be due."""

    at: datetime
    wall: datetime
    zone: str
    due: datetime
    note: str


def zone_of(rule: Rule) -> str:
    """The zone on whose wall a rule is read; a fixed interval has none, and is shown in UTC."""
    return rule.tz if isinstance(rule, Cron) else "UTC"


def preview(timing: Timing, since: datetime, count: int, identity: str) -> list[Fire]:
    """The next fires after `since`, at most `count`."""
    return list(islice(_fires(timing, since, identity), count))


def _fires(timing: Timing, since: datetime, identity: str) -> Iterator[Fire]:
    name = zone_of(timing.rule)
    zone = zones.load(name)
    while (at := timing.after(since)) is not None:
        note = "; ".join(_notes(timing.rule, since, at)) if isinstance(timing.rule, Cron) else ""
        yield Fire(at, at.astimezone(zone), name, at + timing.delay(identity, at), note)
        since = at


def _notes(rule: Cron, since: datetime, at: datetime) -> Iterator[str]:
    for change, before, after in _changes(rule.tz, since, at):
        if after > before:
            yield from _gap(rule, change + before, change + after, fires_there=at == change.replace(tzinfo=UTC))
    wall = at.astimezone(zones.load(rule.tz))
    twin = wall.replace(fold=1 - wall.fold)
    if twin.utcoffset() == wall.utcoffset():
        return  # the clock shows it once
    word, other = ("second" if wall.fold else "first"), twin.astimezone(UTC)
    if rule.after(other - _SECOND) == other:
        yield f"{word} {_clock(wall)} of two"
    else:
        yield f"{_clock(wall)} comes twice, fires the {word} time only"


def _gap(rule: Cron, start: datetime, end: datetime, *, fires_there: bool) -> Iterator[str]:
    """What becomes of the wall times in [start, end) that the expression names and the zone leaves out."""
    walls = list(_walls(rule, start, end))
    if not walls:
        return
    first, last = _clock(walls[0]), _clock(walls[-1])
    missing = f"{first} does not exist" if len(walls) == 1 else f"{first} to {last} do not exist"
    if not fires_there:
        yield f"{missing} on {end:%Y-%m-%d}, skipped"
    elif expression.first_after(rule.expression, end - _SECOND) == end:  # it would fire here anyway
        yield f"{missing} on {end:%Y-%m-%d}"
    else:
        yield f"{missing} on {end:%Y-%m-%d}, fires at {_clock(end)}"


def _walls(rule: Cron, start: datetime, end: datetime) -> Iterator[datetime]:
    wall = expression.first_after(rule.expression, start - _SECOND)
    while wall is not None and wall < end:
        yield wall
        wall = expression.first_after(rule.expression, wall)


def _changes(zone: str, since: datetime, until: datetime) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    """Instants in (since, until] (naive UTC) at which the offset changes, with the one before and the one after."""
    period, last = zones.period(zone, _naive(since)), _naive(until)
    while period.end <= last:
        following = zones.period(zone, period.end)
        if following.offset != period.offset:
            yield period.end, period.offset, following.offset
        period = following


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _clock(wall: datetime) -> str:
    return wall.strftime("%H:%M:%S" if wall.second else "%H:%M")
