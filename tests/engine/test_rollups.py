"""Runs that ended are counted by minute, each of them once, whatever happens in between."""

import contextlib
import random
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.histogram import BUCKETS
from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps import retention, rollups
from orchestrator.ledger import rollups as kept
from orchestrator.ledger.rollups import RunStats
from tests.support.factories import Lab, call

NOW, AGAIN = timedelta(0), timedelta(seconds=10)


class Died(Exception):
    """Instead of a kill: what was not committed is gone."""


def counted(lab: Lab) -> list[RunStats]:
    """Once every page was looked at again."""
    lab.forward(2 * AGAIN)
    while rollups.count(lab.ledger, AGAIN).more:
        pass
    return kept.stats(lab.ledger, None, lab.now() - timedelta(days=30), lab.now() + timedelta(minutes=1))


def by_status(lab: Lab) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in counted(lab):
        found[row.status] += row.count
    return dict(found)


def test_ended_runs_are_counted_with_how_long_they_took(lab: Lab) -> None:
    lab.flow({"a": call()})
    lab.flow({"a": call()}, name="other")
    one, two, three, four = lab.start(), lab.start(), lab.start("other"), lab.start()
    lab.forward(20)
    lab.do(one, "a")
    lab.do_fail(two, "a")
    lease = lab.take(three, "a")
    lab.forward(200)
    lab.done(lease)
    first, second, third = sorted(counted(lab), key=lambda row: (row.flow, row.status))
    assert [(row.flow, row.version, row.status, row.count) for row in (first, second, third)] == [
        ("demo", 1, RunStatus.FAILED, 1),
        ("demo", 1, RunStatus.SUCCEEDED, 1),
        ("other", 1, RunStatus.SUCCEEDED, 1),
    ]
    assert first.wait_mean_s == pytest.approx(20, abs=5)
    assert 10 < first.wait_p95_s <= 30
    assert third.duration_mean_s == pytest.approx(200, abs=5)
    assert 100 < third.duration_p50_s <= 300
    (row,) = lab.rows("SELECT * FROM flow_run_rollups WHERE flow = 'other'")
    assert (len(row["durations"]), sum(row["durations"]), sum(row["waits"])) == (BUCKETS, 1, 1)
    lab.do(four, "a")
    assert by_status(lab) == {"failed": 1, "succeeded": 3}


def test_a_run_is_counted_as_it_ended_first(lab: Lab) -> None:
    run_id = lab.run({"a": call()})
    lab.do_fail(run_id, "a")
    lab.forward(10)
    assert by_status(lab) == {"failed": 1}
    retry_step.retry(lab.ledger, run_id, None, by="ann")
    lab.drain(run_id)
    lab.forward(timedelta(hours=2))
    assert by_status(lab) == by_status(lab) == {"failed": 1}
    assert lab.rows("SELECT * FROM flow_rollup_pages") == []


@pytest.mark.parametrize("late", [timedelta(minutes=59), timedelta(hours=2)])
def test_a_run_that_appears_behind_others_is_counted_if_it_is_not_too_late(lab: Lab, late: timedelta) -> None:
    """Its transaction was long, or a clock is behind."""
    lab.flow({"a": call()})
    early = lab.start()
    lab.do(early, "a")
    lab.forward(10)
    assert by_status(lab) == {"succeeded": 1}
    lab.forward(late)
    assert by_status(lab) == {"succeeded": 1}
    between = UUID(int=early.int - 1)
    (row,) = lab.rows("SELECT behind FROM flow_rollup_state")
    assert between < row["behind"]
    lab.start(run_id=between)
    lab.do(between, "a")
    lab.forward(timedelta(hours=1))
    assert by_status(lab) == {"succeeded": 2 if late < kept.LATE else 1}


@pytest.mark.parametrize("point", ["rollup.counted", "rollup.committed"])
@pytest.mark.parametrize("seed", range(3))
def test_every_run_is_counted_once_whoever_dies_when(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, point: str, seed: int
) -> None:
    monkeypatch.setattr(kept, "PAGE", 4)
    monkeypatch.setattr(kept, "PAGES", 2)
    luck = random.Random(seed)
    lab.flow({"a": call()})
    open_: list[UUID] = []
    ended: Counter[str] = Counter()

    def die() -> None:
        if luck.random() < 0.4:
            raise Died

    for _ in range(60):
        faults.arm(point, die)
        match luck.randrange(5):
            case 0 | 1:
                open_ += [lab.start() for _ in range(luck.randrange(1, 5))]
            case 2 if open_:
                run_id = open_.pop(luck.randrange(len(open_)))
                lab.do(run_id, "a")
                ended["succeeded"] += 1
            case 3 if open_:
                run_id = open_.pop(luck.randrange(len(open_)))
                cancel_run.cancel(lab.ledger, run_id, by="ann", reason="enough", grace=NOW)
                ended["cancelled"] += 1
            case 4:
                lab.forward(luck.choice((1, 10, 2000)))
        with contextlib.suppress(Died):
            rollups.count(lab.ledger, NOW)
    faults.disarm()
    lab.forward(10)
    assert by_status(lab) == dict(ended), f"seed {seed}"
    lab.forward(timedelta(hours=2))
    assert by_status(lab) == dict(ended), f"seed {seed}"
    (row,) = lab.rows("SELECT COALESCE(sum(cardinality(waiting)), 0) AS open FROM flow_rollup_pages")
    assert row["open"] == len(open_)


def test_two_keepers_count_each_run_once(lab: Lab) -> None:
    lab.flow({"a": call()})
    runs = [lab.start() for _ in range(20)]
    for run_id in runs[:10]:
        lab.do(run_id, "a")
    lab.forward(10)
    for later in (runs[10:], []):
        lab.race(*(lambda: rollups.count(lab.ledger, NOW) for _ in range(3)))
        for run_id in later:
            lab.do(run_id, "a")
    assert by_status(lab) == {"succeeded": 20}


def test_stats_are_told_by_parts_of_the_span(lab: Lab) -> None:
    lab.flow({"a": call()})
    since = lab.now().replace(second=0, microsecond=0)
    for _ in range(2):
        lab.do(lab.start(), "a")
        lab.forward(timedelta(hours=1))
    counted(lab)
    hour = timedelta(hours=1)
    rows = kept.stats(lab.ledger, "demo", since, since + 3 * hour, hour)
    assert [(row.since, row.count) for row in rows] == [(since, 1), (since + hour, 1)]
    assert kept.stats(lab.ledger, "other", since, since + 3 * hour) == []


def test_old_roll_ups_are_removed(lab: Lab) -> None:
    run_id: Any = lab.run({"a": call()})
    lab.do(run_id, "a")
    lab.forward(10)
    assert by_status(lab) == {"succeeded": 1}
    lab.forward(timedelta(days=89))
    assert retention.counts(lab.ledger, timedelta(days=1)) == 0
    lab.forward(timedelta(days=2))
    assert retention.counts(lab.ledger, timedelta(days=100)) == 0
    assert retention.counts(lab.ledger, timedelta(days=1)) == 1
