"""How many runs ended, and how long they took: filled from runs that ended, each of them counted once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.histogram import BOUNDS_S, BUCKETS, added, quantile
from orchestrator.core.states import RunStatus
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.tx import Ledger

FRESH: Final = timedelta(seconds=5)
"""Younger runs are left for the next time: most of those that appear out of order have appeared by then."""
LATE: Final = timedelta(hours=1)
"""How far the clock of whoever starts a run may be behind, and how long the transaction that starts it may take. A run
that appears later is not counted."""
PAGE: Final = 500
PAGES: Final = 20
_FIRST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class RunStats:
    """Runs of a flow's version that ended in one way in a part of the span; `version` is its ordinal. Lengths are in
    seconds: `duration` from the start to the end, `wait` from acceptance to the start. Quantiles are estimates."""

    flow: str
    version: int
    status: RunStatus
    since: datetime
    count: int
    duration_mean_s: float
    duration_p50_s: float
    duration_p95_s: float
    wait_mean_s: float
    wait_p50_s: float
    wait_p95_s: float


def count_next(tx: Connection) -> tuple[int, int]:
    """Look at a page of runs that were not looked at yet: how many there were, and how many of them had ended."""
    run(tx, "rollup_place", first=_FIRST)
    row = one(tx, "rollup_next", bounds=list(BOUNDS_S), fresh=FRESH, page=PAGE)
    return (row.looked, row.counted) if row is not None else (0, 0)


def count_again(tx: Connection, every: timedelta) -> tuple[int, int]:
    """Look again at pages that were not looked at for that time: how many, and how many runs were counted."""
    row = one(tx, "rollup_again", bounds=list(BOUNDS_S), late=LATE, every=every, pages=PAGES)
    assert row is not None
    return row.pages, row.counted


def drop(tx: Connection, ttl: timedelta, page: int) -> int:
    """Remove roll-ups of that age; how many."""
    row = one(tx, "drop_rollups", ttl=ttl, page=page)
    return int(row.removed) if row else 0


def stats(
    ledger: Ledger, flow: str | None, since: datetime, until: datetime, every: timedelta | None = None
) -> list[RunStats]:
    """By part of the span (of the length `every`; the whole span without it), flow, version and status. A minute counts
    if it begins in the span."""
    with ledger.auto() as tx:
        return [_stats(row) for row in run(tx, "stats", flow=flow, since=since, until=until, every=every)]


def _stats(row: Any) -> RunStats:
    def quantiles(counts: Sequence[Sequence[int]]) -> tuple[float, float]:
        every = reduce(added, counts, [0] * BUCKETS)
        return quantile(every, 0.5) or 0.0, quantile(every, 0.95) or 0.0

    duration_p50, duration_p95 = quantiles(row.durations)
    wait_p50, wait_p95 = quantiles(row.waits)
    mean, wait_mean = row.duration_s / row.n, row.wait_s / row.n
    return RunStats(
        *(row.flow, row.version, RunStatus(row.status), row.since, row.n),
        *(mean, duration_p50, duration_p95, wait_mean, wait_p50, wait_p95),
    )
