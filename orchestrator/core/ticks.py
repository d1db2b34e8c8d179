"""What becomes of the ticks of a schedule that are due: which start, which are missed, where the cursor goes. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal, NamedTuple

from orchestrator.core.timing import Timing

Missed = Literal["skip", "latest", "all", "none"]
"""Which missed ticks are made up for. `none` is for a schedule that is being stopped: nothing at all."""
Outcome = Literal["started", "queued", "skipped"]

GRACE: Final = timedelta(seconds=60)
"""A tick decided within this much of its time was not missed."""
AT_ONCE: Final = 100
"""How many ticks `all` starts in one transaction; the next transaction goes on from there."""
COUNTED: Final = 1_000_000
"""Missed ticks are counted up to here."""
_SECOND: Final = timedelta(seconds=1)
_ZERO: Final = timedelta(0)
_JITTERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Due:
    """A decision. The `missed` ticks end with `last_missed`; `cursor` is the next time to decide, due at `due_at`."""

    times: tuple[datetime, ...]
    missed: int
    last_missed: datetime | None
    cursor: datetime | None
    due_at: datetime | None

    @property
    def last(self) -> datetime:
        """The last scheduled time that is decided here."""
        decided = [*self.times, self.last_missed] if self.last_missed is not None else list(self.times)
        return max(decided)


class MakesUp(NamedTuple):
    """Which missed ticks are made up for, and how old they may be; None: as old as they are."""

    missed: Missed
    window: timedelta | None = None


def due_at(timing: Timing, name: str, scheduled: datetime) -> datetime:
    """A scheduled time and its jitter."""
    return scheduled + timing.delay(name, scheduled)


def due(
    timing: Timing,
    name: str,
    cursor: datetime | None,
    now: datetime,
    makes_up: MakesUp,
    *,
    jittered: bool = True,
) -> Due | None:
    """Decide the ticks from `cursor` on that are due at `now`; None when none is.

    Without `jittered` a scheduled time is due at once: for a rule that is about to end.
    """
    missed, window = makes_up
    asked = _Asked(timing, name, now, jittered)
    if cursor is None or not asked.is_due(cursor):
        return None
    before = cursor - _SECOND
    if missed == "all":
        return _all(asked, before, window)
    last = asked.last(before)
    late = now - asked.due_at(last) > GRACE
    dropped = missed == "none" or (late and missed == "skip") or (window is not None and last < now - window)
    times = () if dropped else (last,)
    last_missed = last if dropped else timing.last(before, last - _SECOND)
    return asked.decided(times, before, last_missed, last)


def _all(asked: "_Asked", before: datetime, window: timedelta | None) -> Due:
    old = None
    if window is not None:
        edge = asked.last(before, asked.now - window - timedelta(microseconds=1))
        old = edge if edge > before else None
    times = tuple(islice(asked.walk(old or before), AT_ONCE))
    last = times[-1] if times else old
    assert last is not None
    return asked.decided(times, before, old, last)


@dataclass(frozen=True, slots=True)
class _Asked:
    timing: Timing
    name: str
    now: datetime
    jittered: bool

    def due_at(self, scheduled: datetime) -> datetime:
        return due_at(self.timing, self.name, scheduled) if self.jittered else scheduled

    def is_due(self, scheduled: datetime) -> bool:
        return self.due_at(scheduled) <= self.now

    def walk(self, since: datetime) -> Iterator[datetime]:
        """The due times after `since`, in order, up to the first that is not due."""
        fire = self.timing.after(since)
        while fire is not None and self.is_due(fire):
            yield fire
            fire = self.timing.after(fire)

    def last(self, before: datetime, until: datetime | None = None) -> datetime:
        """The last due time after `before` (and up to `until`), or `before` when there is none."""
        until = self.now if until is None else min(until, self.now)
        first = self.timing.after(before)
        if first is None or first > until or not self.is_due(first):
            return before
        second = self.timing.after(first)
        if second is None or second > until or not self.is_due(second):
            return first
        certain = until - self.timing.jitter if self.jittered else until
        found = self.timing.last(before, certain) or before
        for fire in islice(self.walk(found), _JITTERED):
            if fire > until:
                break
            found = fire
        return found

    def decided(
        self, times: tuple[datetime, ...], before: datetime, last_missed: datetime | None, last: datetime
    ) -> Due:
        count = 0 if last_missed is None else self.timing.count(before, last_missed, COUNTED)
        cursor = self.timing.after(last)
        return Due(
            times, count, last_missed, cursor, None if cursor is None else due_at(self.timing, self.name, cursor)
        )


def outcomes(
    times: Sequence[datetime], overlap: Literal["allow", "skip", "queue", "cancel"], *, busy: bool
) -> list[Outcome]:
    """What becomes of each due time, in order. `busy`: the schedule already has an open run."""
    if overlap == "allow" or not times:
        return ["started"] * len(times)
    if overlap == "cancel":
        return [*outcomes(times[:-1], "skip", busy=True), "started"]
    first: list[Outcome] = [] if busy else ["started"]
    rest = len(times) - len(first)
    last: list[Outcome] = ["queued"] if overlap == "queue" and rest else []
    skipped: list[Outcome] = ["skipped"] * (rest - len(last))
    return [*first, *skipped, *last]
