"""What a group of workers has to do is counted by the ledger, within a bounded time."""

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.scaling import Group, Load
from orchestrator.ledger import scaling
from tests.support.factories import Lab, after, call, retry
from tests.support.schedules import MINUTELY, NOON, at

DEFAULT = Group(queues=("default",), slots=4)
GPU = Group(queues=("gpu", "big"), slots=1)


def load(lab: Lab, group: Group = DEFAULT) -> Load:
    return scaling.load(lab.ledger, group)


def facts(lab: Lab, group: Group = DEFAULT) -> tuple[int, int, int]:
    found = load(lab, group)
    return found.running, found.ready, found.due


def test_what_runs_and_what_is_ready_is_counted_by_queue(lab: Lab) -> None:
    lab.flow({"a": call(), "b": call(queue="gpu"), "c": call(queue="big")})
    runs = [lab.start() for _ in range(3)]
    assert (facts(lab), facts(lab, GPU)) == ((0, 3, 0), (0, 6, 0))
    lab.take(runs[0], "a")
    lab.take(runs[0], "b")
    assert (facts(lab), facts(lab, GPU)) == ((1, 2, 0), (1, 5, 0))
    assert load(lab).mean_s is None


def test_the_length_of_a_step_is_that_of_those_that_ended(lab: Lab) -> None:
    lab.flow({"a": call(), "b": call(queue="gpu")})
    leases = []
    for _ in range(2):
        run_id = lab.start()
        leases.append((lab.take(run_id, "a"), lab.take(run_id, "b")))
    lab.forward(timedelta(seconds=10))
    for short, _ in leases:
        lab.done(short)
    lab.forward(timedelta(seconds=90))
    lab.done(leases[0][1])
    lab.fail(leases[1][1], retryable=False)
    assert load(lab).mean_s == pytest.approx(10, abs=1)
    assert load(lab, GPU).mean_s == pytest.approx(100, abs=1)


def test_what_is_tried_again_soon_is_counted(lab: Lab) -> None:
    run_id = lab.run({"a": call(retry=retry(3, 60.0))})
    lab.fail(lab.take(run_id, "a"), jitter=0.5)
    assert facts(lab) == (0, 0, 0)
    lab.forward(timedelta(seconds=58))
    assert facts(lab) == (0, 0, 1)
    assert facts(lab, GPU) == (0, 0, 0)


def test_what_follows_a_sleep_that_is_over_soon_is_counted_where_it_runs(lab: Lab) -> None:
    nap = {"sleep": "1h"}
    lab.run({"nap": nap, "b": after("nap", queue="gpu"), "c": after("nap", queue="gpu"), "d": after("nap")})
    assert (facts(lab), facts(lab, GPU)) == ((0, 0, 0), (0, 0, 0))
    lab.forward(timedelta(minutes=59, seconds=45))
    assert (facts(lab), facts(lab, GPU)) == ((0, 0, 1), (0, 0, 2))


def test_sleeps_of_items_are_counted_each(lab: Lab) -> None:
    body: dict[str, Any] = {"nap": {"sleep": "1h"}, "work": after("nap", queue="gpu")}
    lab.run(
        {"all": {"for_each": "@triggerBody().items", "steps": body, "output": "@steps('work').output"}},
        body={"items": [1, 2, 3]},
    )
    lab.forward(timedelta(minutes=59, seconds=45))
    assert facts(lab, GPU) == (0, 0, 3)


def test_runs_that_begin_soon_are_counted(lab: Lab) -> None:
    lab.flow({"a": call(), "b": call(queue="gpu"), "c": after("a")})
    lab.start(begins=timedelta(hours=1))
    assert facts(lab) == (0, 0, 0)
    lab.forward(timedelta(minutes=59, seconds=45))
    assert (facts(lab), facts(lab, GPU)) == ((0, 0, 1), (0, 0, 1))


def test_schedules_that_fire_soon_are_counted_unless_they_are_off(lab: Lab) -> None:
    at(lab, NOON)
    lab.flow({"a": call(), "b": call(queue="gpu")}, name="demo", triggers={"m": MINUTELY})
    assert facts(lab) == (0, 0, 0)
    lab.forward(timedelta(seconds=40))
    assert (facts(lab), facts(lab, GPU)) == ((0, 0, 1), (0, 0, 1))
    lab.execute("UPDATE flow_definitions SET enabled = FALSE")
    assert facts(lab) == (0, 0, 0)


def test_a_version_that_cannot_be_read_wakes_a_worker_of_every_group(unaudited_lab: Lab) -> None:
    """A newer release's: whose steps it opens, only that one knows."""
    lab = unaudited_lab
    lab.run({"nap": {"sleep": "1h"}, "b": after("nap", queue="gpu")})
    lab.execute("UPDATE flow_definition_versions SET format = 999, manifest = '{}'")
    lab.ledger._plans.clear()
    lab.forward(timedelta(minutes=59, seconds=45))
    assert (facts(lab), facts(lab, GPU)) == ((0, 0, 1), (0, 0, 1))


def test_counting_ends_somewhere(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "MOST", 5)
    lab.flow({"a": call()})
    for _ in range(7):
        lab.start()
    found = load(lab)
    assert (found.ready, found.all_counted) == (5, False)
