"""What has to change in Redis so that RedBeat knows the schedules of the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.ledger.schedules import MirrorRow

_SAME_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Found:
    """An entry in Redis. `version`: of the schedule it was made from; None: a part of it is missing."""

    version: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Put:
    """Write this schedule's entry. `expected`: only while it still has this score, for a beat may have fired it."""

    row: MirrorRow
    expected: float | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What to write, and what to remove."""

    puts: tuple[Put, ...] = ()
    deletes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.puts) + len(self.deletes)


def fires(row: MirrorRow) -> bool:
    """Whether this schedule has an entry at all."""
    return row.enabled and row.due_at is not None


def compare(rows: Iterable[MirrorRow], found: Mapping[str, Found], now: datetime) -> Changes:
    """What Redis lost, has in another version, has at another time, or has although it should not.

    `found` has what Redis has of the same schedules.
    """
    wanted = {row.name: row for row in rows if fires(row)}
    puts = (_put(row, found.get(name), now) for name, row in wanted.items())
    return Changes(tuple(put for put in puts if put is not None), tuple(sorted(found.keys() - wanted.keys())))


def _put(row: MirrorRow, found: Found | None, now: datetime) -> Put | None:
    if found is None or found.version != row.version:
        return Put(row)
    assert row.due_at is not None
    # A tick that is due was announced, or will be at once: the entry is then rightly ahead of the ledger.
    if row.due_at <= now or abs(found.score - row.due_at.timestamp()) <= _SAME_S:
        return None
    return Put(row, found.score)
