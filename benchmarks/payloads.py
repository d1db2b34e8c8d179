"""Long results in the ledger, and in a payload store: what a run takes, and by how much the database grows."""

import time
from contextlib import ExitStack
from statistics import median
from typing import Final

import psycopg

from benchmarks.alone import Ground
from benchmarks.contenders import Ours, succeeded
from benchmarks.figures import number
from benchmarks.payload_flows import large
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes

_BYTES: Final = 1_000_000
_RUNS: Final = 60
_FLOWS: Final = "benchmarks.payload_flows"


def payloads(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Runs of two steps, one at a time, in turn."""
    (store := ground.folder / "payloads").mkdir()
    notes, ratios = [], []
    with ExitStack() as stack:
        ledger_url, store_url = ground.database("inside"), ground.database("outside")
        inside = stack.enter_context(ground.ours(ledger_url, 12, "inside", _FLOWS))
        outside = stack.enter_context(ground.ours(store_url, 13, "outside", _FLOWS, payload_store=f"file://{store}"))
        for one in (inside, outside):
            _runs(one, 3)
        for turn in range(sizes.rounds):
            took, grew = [], []
            for one, url in ((inside, ledger_url), (outside, store_url)):
                before = _size(url)
                took.append(_runs(one, _RUNS))
                grew.append((_size(url) - before) / _RUNS / 2**20)
            ratios.append(took[1] / took[0])
            notes.append(
                f"round {turn + 1}: {number(took[0])} ms per run in the ledger, {number(took[1])} with the store; the "
                f"database and its log grew by {number(grew[0])} and {number(grew[1])} MB per run"
            )
            say(f"payloads: {notes[-1]}")
    notes.append(f"a run with the store to one without: **{number(median(ratios))} times**")
    return Result(f"A result of {_BYTES:,} bytes for the next step", notes=notes)


def _runs(ours: Ours, count: int) -> float:
    """Milliseconds of one."""
    began = time.perf_counter()
    for _ in range(count):
        succeeded(ours.client.start(large, size=_BYTES))
    return (time.perf_counter() - began) / count * 1000


def _size(url: str) -> float:
    """Bytes of a database, and what was written to the server's log; whoever else writes there is counted too."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT pg_database_size(current_database()) + pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
        ).fetchone()
    assert row is not None
    return float(row[0])
