"""When the steps of a run ran, in columns."""

import dataclasses
import json
import zlib
from uuid import UUID

import pytest

from orchestrator.engine.sweeps import sweep
from orchestrator.errors import RunNotFound
from orchestrator.ledger import timelines
from tests.support.factories import Lab, after, call, loop, retry

WAIT = {"sleep": "PT5S", "run_after": {"a": ["succeeded"]}}


def test_attempts_and_waits_are_bars_in_the_order_of_the_manifest(lab: Lab) -> None:
    run_id = lab.run({"a": call(retry=retry(2)), "nap": WAIT, "b": after("a"), "z": after("nap"), "each": loop([1, 2])})
    lab.forward(10)
    lab.fail(lab.take(run_id, "a"))
    lab.forward(2)
    sweep.due(lab.ledger)
    lease = lab.take(run_id, "a")
    lab.forward(20)
    lab.done(lease)
    lab.do(run_id, "each.1.do")
    lab.take(run_id, "b")
    lab.forward(3)
    found = timelines.of_run(lab.ledger, run_id)
    bars = [
        (found.lanes[lane], attempt, found.states[state], round(start / 1000), round(length / 1000))
        for lane, attempt, state, start, length in zip(
            found.lane, found.attempt, found.state, found.start, found.length, strict=True
        )
    ]
    assert [bar[:3] for bar in bars] == [
        ("a", 1, "failed"),
        ("a", 2, "succeeded"),
        ("nap", 1, "waiting"),
        ("b", 1, "running"),
        ("each.1.do", 1, "succeeded"),
    ]
    times = {bar[:2]: bar[3:] for bar in bars}
    assert times["a", 2] == (pytest.approx(12, abs=2), pytest.approx(20, abs=2))
    assert times["b", 1] == (pytest.approx(32, abs=2), pytest.approx(3, abs=2))
    assert found.densities == ()


def test_a_loop_with_many_items_is_a_density(lab: Lab) -> None:
    count = 250
    run_id = lab.run({"first": call(), "each": loop(list(range(count)))})
    lab.do(run_id, "first")
    leases = [lab.take(run_id, f"each.{n}.do") for n in range(count)]
    lab.forward(1000)
    for lease in leases[:100]:
        lab.fail(lease, retryable=False)
    lab.forward(1000)
    found = timelines.of_run(lab.ledger, run_id)
    assert found.lanes == ("first",)
    (density,) = found.densities
    assert (density.step, density.bars, sum(density.failed)) == ("each", count, 100)
    assert len(density.running) == len(density.failed) == timelines.PARTS
    assert max(density.running) == count
    assert density.running[-1] == 150
    place = next(place for place, failed in enumerate(density.failed) if failed)
    assert timelines.PARTS * 0.4 < place < timelines.PARTS * 0.6


def test_ten_thousand_bars_are_small(lab: Lab) -> None:
    run_id = lab.run({f"s{n}": call() for n in range(60)})
    lab.execute(
        "INSERT INTO flow_step_attempts (run_id, step_key, attempt, version, owner, status, started_at, ended_at)"
        " SELECT %s, 's' || n, a, a, 'w', 'failed', at, at + interval '900 ms' FROM generate_series(0, 59) n,"
        " generate_series(1, 190) a, LATERAL (SELECT now() + a * interval '2 s' AS at) AS begun",
        run_id,
    )
    found = timelines.of_run(lab.ledger, run_id)
    assert len(found.start) == 60 * 190
    assert not found.more
    text = json.dumps(dataclasses.asdict(found), default=str, separators=(",", ":"))
    assert len(zlib.compress(text.encode())) < 100_000
    lab.execute("DELETE FROM flow_step_attempts")


def test_a_run_that_is_not_there_is_told(lab: Lab) -> None:
    with pytest.raises(RunNotFound):
        timelines.of_run(lab.ledger, UUID(int=1))
