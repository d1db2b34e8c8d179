"""When the steps of a run ran, in columns: ten thousand of them are read, sent and drawn at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.ledger.reads.runs import no_run
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.tx import Ledger

MOST_BARS: Final = 200
"""A step with its items that has more is drawn by its density."""
PARTS: Final = 200
"""Parts of the span of a density."""
_ALL: Final = 20_000
_INSTANT: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Density:
    """A loop with many items: in each part of the span, how many attempts were under way at its end, and how many
    failed in it."""

    step: str
    bars: int
    running: tuple[int, ...]
    failed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The attempts of a run, and its waits, as columns of one length: `start` and `length` in milliseconds from
    `begin`, `state` and `lane` as places in `states` and `lanes` (keys of steps, in the order of the manifest). What
    goes on lasts until `until`. A loop with more than 200 of them has its `densities` instead, over `PARTS` parts of
    the span. `more`: there are more than 20,000, and the others are left out."""

    begin: datetime
    until: datetime
    lanes: tuple[str, ...]
    states: tuple[str, ...]
    start: tuple[int, ...]
    length: tuple[int, ...]
    state: tuple[int, ...]
    lane: tuple[int, ...]
    attempt: tuple[int, ...]
    densities: tuple[Density, ...]
    more: bool


def of_run(ledger: Ledger, run_id: UUID) -> Timeline:
    """
    Raises:
        RunNotFound: no such run.
    """
    with ledger.tx() as tx:
        about = one(tx, "timeline_of", run_id=run_id)
        if about is None:
            raise no_run(run_id)
        begin, until = about.created_at, max(about.until, about.created_at + _INSTANT)
        counts: dict[str, int] = about.bars or {}
        crowded = sorted(top for top, count in counts.items() if count > MOST_BARS)
        span = {"run_id": run_id, "begin": begin, "until": until, "crowded": crowded}
        rows = run(tx, "timeline_bars", **span, limit=_ALL + 1).all()
        densities = _densities(tx, counts, span) if crowded else ()
    return _columns(begin, until, rows, densities)


def _columns(begin: datetime, until: datetime, rows: Sequence[Any], densities: tuple[Density, ...]) -> Timeline:
    bars = rows[:_ALL]
    lanes = {key: place for place, key in enumerate(dict.fromkeys(row.step_key for row in bars))}
    states = {name: place for place, name in enumerate(dict.fromkeys(row.status for row in bars))}
    return Timeline(
        begin=begin,
        until=until,
        lanes=tuple(lanes),
        states=tuple(states),
        start=tuple(row.start for row in bars),
        length=tuple(row.length for row in bars),
        state=tuple(states[row.status] for row in bars),
        lane=tuple(lanes[row.step_key] for row in bars),
        attempt=tuple(row.attempt for row in bars),
        densities=densities,
        more=len(rows) > _ALL,
    )


def _densities(tx: Connection, counts: dict[str, int], span: dict[str, Any]) -> tuple[Density, ...]:
    moved = {top: ([0] * PARTS, [0] * PARTS) for top in span["crowded"]}
    for row in run(tx, "timeline_density", **span, parts=PARTS):
        change, failed = moved[row.top]
        change[row.at] = row.started - row.ended
        failed[row.at] = row.failed
    return tuple(
        Density(top, counts[top], tuple(accumulate(change)), tuple(failed)) for top, (change, failed) in moved.items()
    )
