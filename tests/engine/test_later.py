"""Runs that are accepted now and begin later."""

from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import StartedRun, StartRequest
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run, explain, start_run
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import IdempotencyConflict
from orchestrator.ledger import reads
from tests.support.factories import Lab, after, call, keys, loop

GRACE = timedelta(seconds=10)
HOUR = timedelta(hours=1)


def start(lab: Lab, begins: Any = HOUR, **fields: Any) -> StartedRun:
    (started,) = start_run.start(lab.ledger, [StartRequest("demo", begins=begins, **fields)])
    return started


@pytest.fixture
def later(lab: Lab) -> UUID:
    lab.flow({"a": call(), "b": after("a")})
    return start(lab).run_id


def test_it_is_accepted_and_begins_at_its_time(lab: Lab, later: UUID) -> None:
    assert lab.status(later) is RunStatus.PENDING
    assert lab.statuses(later) == {"a": "blocked", "b": "blocked"}
    assert lab.events(later) == ["run.accepted"]
    row = reads.runs.get(lab.ledger, later)
    assert row.start_at is not None
    assert row.start_at - row.created_at == HOUR or abs(row.start_at - row.created_at - HOUR) < timedelta(seconds=1)
    timers = sweep.due(lab.ledger)
    assert 3590 < (timers.next_s or 0) <= 3600
    assert not timers.to_wake
    lab.forward(3590)
    assert wake(lab.ledger).changed == 0
    lab.forward(20)
    assert sweep.due(lab.ledger).to_wake
    assert keys(wake(lab.ledger).dispatches) == ["a"]
    assert wake(lab.ledger).changed == 0
    assert lab.drain(later) == ["a", "b"]
    assert lab.status(later) is RunStatus.SUCCEEDED
    assert lab.events(later)[:3] == ["run.accepted", "run.opened", "step.dispatched a"]


def test_a_point_in_time_will_do_too(lab: Lab) -> None:
    lab.flow({"a": call()})
    at = lab.now() + HOUR
    later, past = start(lab, at).run_id, start(lab, lab.now() - HOUR).run_id
    assert reads.runs.get(lab.ledger, later).start_at == at
    assert [one.run_id for one in wake(lab.ledger).dispatches] == [past]


@pytest.mark.parametrize(
    "steps",
    [{}, {"each": loop([1, 2])}, {"nap": {"sleep": "1m"}, "a": after("nap")}, {"each": loop([]), "a": after("each")}],
)
def test_whatever_stands_first_is_opened_then(lab: Lab, steps: Any) -> None:
    """No step has gone before."""
    lab.flow(steps)
    run_id = start(lab).run_id
    assert set(lab.statuses(run_id).values()) <= {"blocked"}
    lab.forward(3601)
    wake(lab.ledger)
    lab.drain(run_id)
    lab.forward(61)
    wake(lab.ledger)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_it_can_be_cancelled_before_it_begins(lab: Lab, later: UUID) -> None:
    cancel_run.cancel(lab.ledger, later, by="ada", reason="enough", grace=GRACE)
    assert lab.status(later) is RunStatus.CANCELLED
    lab.forward(3700)
    assert not sweep.due(lab.ledger).to_wake
    assert wake(lab.ledger).changed == 0


def test_its_deadline_counts_from_its_acceptance(lab: Lab) -> None:
    lab.flow({"a": call()}, deadline="PT30M")
    run_id = start(lab).run_id
    lab.forward(1801)
    assert sweep.deadlines(lab.ledger, GRACE).changed == 1
    assert lab.status(run_id) is RunStatus.TIMED_OUT


def test_a_key_stands_for_the_same_run(lab: Lab) -> None:
    """Whenever it begins."""
    lab.flow({"a": call()})
    first = start(lab, key="k")
    again = start(lab, timedelta(hours=5), key="k")
    assert (again.run_id, again.created, again.dispatches) == (first.run_id, False, ())
    assert start(lab, None, key="k").run_id == first.run_id
    with pytest.raises(IdempotencyConflict):
        start(lab, key="k", body='{"x": 1}')
    lab.forward(3601)
    assert [one.run_id for one in wake(lab.ledger).dispatches] == [first.run_id]


def test_some_of_one_call_begin_at_once(lab: Lab) -> None:
    lab.flow({"a": call()})
    requests = [StartRequest("demo"), StartRequest("demo", begins=HOUR), StartRequest("demo", begins=2 * HOUR)]
    started = start_run.start(lab.ledger, requests)
    assert [keys(one.dispatches) for one in started] == [["a"], [], []]
    lab.forward(3601)
    assert [one.run_id for one in wake(lab.ledger).dispatches] == [started[1].run_id]


def test_several_keepers_open_it_once(lab: Lab) -> None:
    lab.flow({"a": call()})
    runs = [start(lab).run_id for _ in range(60)]
    lab.forward(3601)
    found = lab.race(*[lambda: wake(lab.ledger) for _ in range(3)])
    found.append(wake(lab.ledger))
    assert sorted(one.run_id for swept in found for one in swept.dispatches) == sorted(runs)


def test_explain_says_when_it_begins(lab: Lab, later: UUID) -> None:
    at = reads.runs.get(lab.ledger, later).start_at
    assert at is not None
    said = explain.explain(lab.ledger, later).sentence
    assert said.startswith(
        f"Run {later} was accepted and begins at {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, in 59 min"
    )
    lab.forward(3601)
    wake(lab.ledger)
    assert "has been ready for" in explain.explain(lab.ledger, later).sentence
    lab.drain(later)
