"""Sleeps, and waits for a time: rows that no worker holds, never over before their time."""

from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.settling import Settle
from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.runs import cancel_run, explain
from orchestrator.engine.steps import retry_step, settle_step
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.ledger import reads
from tests.support.factories import Lab, after, call, keys, loop

GRACE = timedelta(seconds=10)


def wait(*before: str, **fields: Any) -> dict[str, Any]:
    """A step that waits."""
    return {"run_after": {key: ["succeeded"] for key in before}, **fields}


def sleeping(lab: Lab, sleep: str = "1d") -> UUID:
    """A run that sleeps between its two steps."""
    return lab.run({"a": call(), "nap": wait("a", sleep=sleep), "b": after("nap")})


def parked(lab: Lab, run_id: UUID, key: str = "nap") -> dict[str, Any]:
    step = lab.step(run_id, key)
    assert (step["status"], step["due_at"], step["type"], step["attempts"]) == ("waiting", None, None, 0)
    return step


def test_a_sleep_is_over_after_its_length_and_never_before(lab: Lab) -> None:
    run_id = sleeping(lab)
    before = lab.now()
    lab.do(run_id, "a")
    step = parked(lab, run_id)
    assert before + timedelta(days=1) <= step["wake_at"] <= lab.now() + timedelta(days=1)
    assert lab.status(run_id) is RunStatus.WAITING
    assert 86_000 < (sweep.due(lab.ledger).next_s or 0) <= 86_400
    lab.forward(86_390)
    assert wake(lab.ledger).changed == 0
    assert (sweep.due(lab.ledger).changed, sweep.due(lab.ledger).to_wake) == (0, False)
    lab.forward(20)
    assert (sweep.due(lab.ledger).changed, sweep.due(lab.ledger).to_wake) == (0, True)
    assert keys(wake(lab.ledger).dispatches) == ["b"]
    assert wake(lab.ledger).changed == 0
    lab.do(run_id, "b")
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert reads.steps.output(lab.ledger, run_id, "nap") is None
    told = [event for event in lab.events(run_id) if event.endswith(" nap")]
    assert told == ["step.parked nap", "step.succeeded nap"]


@pytest.mark.parametrize(
    "fields",
    [{"sleep": "1d"}, {"signal": {"name": "go"}}, {"approval": {"title": "Ship it?", "to": "store"}}],
    ids=["sleep", "signal", "approval"],
)
def test_a_run_that_begins_with_a_wait_waits(lab: Lab, fields: dict[str, Any]) -> None:
    run_id = lab.run({"nap": wait(**fields), "b": after("nap")})
    assert lab.status(run_id) is RunStatus.WAITING
    assert lab.events(run_id)[:3] == ["run.accepted", "run.started", "step.parked nap"]
    assert reads.runs.get(lab.ledger, run_id).started_at is not None


@pytest.mark.parametrize(
    ("until", "body"),
    [
        ("2001-01-01T00:00:00+01:00", {}),
        ("@triggerBody().at", {"at": "2001-01-01T00:00:00Z"}),
        ("time(@triggerBody().at)", {"at": "2001-01-01T00:00:00+05:00"}),
    ],
)
def test_a_time_that_is_past_is_over_at_once(lab: Lab, until: str, body: Any) -> None:
    run_id = lab.run({"nap": wait(until=until), "b": after("nap")}, body=body)
    assert lab.statuses(run_id) == {"nap": "succeeded", "b": "ready"}
    assert "step.parked nap" not in lab.events(run_id)


@pytest.mark.parametrize("form", ["{}", "@triggerBody().at", "time(@steps('a').output)"])
def test_a_wait_for_a_time_ends_then(lab: Lab, form: str) -> None:
    at = (lab.now() + timedelta(hours=5)).replace(microsecond=0)
    nap = wait("a", until=form.format(at.isoformat()))
    run_id = lab.run({"a": call(), "nap": nap, "b": after("nap")}, body={"at": at.isoformat()})
    lab.do(run_id, "a", output=at.isoformat())
    assert parked(lab, run_id)["wake_at"] == at
    lab.forward(5 * 3600 + 1)
    assert keys(wake(lab.ledger).dispatches) == ["b"]


@pytest.mark.parametrize("length", ["PT90S", "90s", 90])
def test_a_length_may_be_computed(lab: Lab, length: Any) -> None:
    run_id = lab.run({"nap": wait(sleep="@triggerBody().for"), "b": after("nap")}, body={"for": length})
    step = parked(lab, run_id)
    assert step["wake_at"] - step["started_at"] == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("fields", "given", "said"),
    [
        ({"sleep": "@triggerBody().x"}, "soon", "'soon' is not a length of time"),
        ({"sleep": "@triggerBody().x"}, None, "None is not a length of time"),
        ({"sleep": "@triggerBody().x"}, "4000d", "is longer than ten years"),
        ({"until": "@triggerBody().x"}, "2026-01-01T00:00:00", "is not a time with its offset"),
        ({"until": "@triggerBody().x"}, 17, "gives 17, which is not a time"),
        ({"until": "@triggerBody().x"}, "9999-12-31T23:59:59-10:00", "which is not a time"),
        ({"until": "time(@triggerBody().x)"}, "9999-12-31T23:59:59-10:00", "is not a time"),
        ({"until": "time(@triggerBody().x)"}, "x", "cannot be evaluated"),
    ],
)
def test_what_is_no_time_fails_the_wait(lab: Lab, fields: Any, given: Any, said: str) -> None:
    run_id = lab.run({"nap": wait(**fields), "b": after("nap")}, body={"x": given})
    assert lab.status(run_id) is RunStatus.FAILED
    error = lab.run_row(run_id)["error"]
    assert (error["step"], error["type"]) == ("nap", "InputInvalid")
    assert said in error["message"]
    assert lab.statuses(run_id) == {"nap": "failed", "b": "skipped"}


def test_waits_of_one_run_are_over_together(lab: Lab) -> None:
    """Their ends are one transaction, and what comes after all of them goes once."""
    steps = {f"nap{n}": wait(sleep="1m") for n in range(5)}
    lab.run({**steps, "b": after(*steps)})
    lab.forward(61)
    assert keys(wake(lab.ledger).dispatches) == ["b"]


def test_a_sleep_opens_what_is_not_plain(lab: Lab) -> None:
    """A loop, another sleep, a step that asks for more."""
    run_id = lab.run(
        {
            "nap": wait(sleep="1m"),
            "again": wait("nap", sleep="1m"),
            "each": loop([1, 2], run_after={"nap": ["succeeded"]}),
            "last": after("again"),
        }
    )
    lab.forward(61)
    assert sorted(keys(wake(lab.ledger).dispatches)) == ["each.0.do", "each.1.do"]
    lab.drain(run_id)
    parked(lab, run_id, "again")
    lab.forward(61)
    assert keys(wake(lab.ledger).dispatches) == ["last"]


def test_many_runs_are_worked_at_by_several_keepers(lab: Lab) -> None:
    """Each run once, whoever asks for the same page."""
    lab.flow({"nap": wait(sleep="1m"), "b": after("nap")})
    runs = [lab.start() for _ in range(120)]
    lab.forward(61)
    found = lab.race(*[lambda: wake(lab.ledger, Walk(page=40)) for _ in range(4)])
    while (more := wake(lab.ledger)).changed:
        found.append(more)
    dispatched = [one.run_id for swept in found for one in swept.dispatches]
    assert sorted(dispatched) == sorted(runs)
    assert {lab.step(run_id, "b")["status"] for run_id in runs} == {"ready"}


def test_a_run_that_is_held_is_left_for_the_next_time(lab: Lab) -> None:
    """Nobody waits for it, and the others are done."""
    held, other = sleeping(lab, "1m"), sleeping(lab, "1m")
    for run_id in (held, other):
        lab.do(run_id, "a")
    lab.forward(61)
    with lab.holding("SELECT id FROM flow_runs WHERE id = %s FOR UPDATE", held):
        assert [one.run_id for one in wake(lab.ledger).dispatches] == [other]
    assert [one.run_id for one in wake(lab.ledger).dispatches] == [held]


def test_a_bad_row_stops_no_other(unaudited_lab: Lab) -> None:
    """A manifest that cannot be read holds up its own run only."""
    lab = unaudited_lab
    runs = [sleeping(lab, "1m") for _ in range(3)]
    for run_id in runs:
        lab.do(run_id, "a")
    lab.execute("UPDATE flow_runs SET manifest_hash = 'gone' WHERE id = %s", runs[0])
    lab.forward(61)
    walk = Walk()
    assert sorted(one.run_id for one in wake(lab.ledger, walk).dispatches) == sorted(runs[1:])


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_halt_ends_a_sleep(lab: Lab, how: str) -> None:
    lab.flow({"nap": wait(sleep="1h"), "b": after("nap")}, deadline="PT1M")
    run_id = lab.start()
    if how == "cancel":
        cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=GRACE)
    lab.forward(3700)
    sweep.deadlines(lab.ledger, GRACE)
    assert wake(lab.ledger).changed == 0
    assert lab.statuses(run_id) == {"nap": "cancelled", "b": "cancelled"}
    assert lab.status(run_id) is (RunStatus.CANCELLED if how == "cancel" else RunStatus.TIMED_OUT)


def test_a_retried_sleep_has_its_whole_length_again(lab: Lab) -> None:
    """A time stays what it is."""
    at = (lab.now() + timedelta(hours=2)).replace(microsecond=0)
    run_id = lab.run({"nap": wait(sleep="1h"), "then": wait(until=at.isoformat()), "b": after("nap", "then")})
    lab.forward(1800)
    cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=GRACE)
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    assert parked(lab, run_id, "then")["wake_at"] == at
    again = parked(lab, run_id)
    assert again["wake_at"] >= lab.now() + timedelta(minutes=59)
    lab.forward(1801)
    assert wake(lab.ledger).changed == 0
    lab.forward(1801)
    wake(lab.ledger)
    lab.forward(3600)
    assert keys(wake(lab.ledger).dispatches) == ["b"]


def test_explain_says_until_when(lab: Lab) -> None:
    run_id = sleeping(lab, "3h")
    lab.do(run_id, "a")
    at = parked(lab, run_id)["wake_at"].astimezone(UTC)
    said = explain.explain(lab.ledger, run_id).sentence
    assert said == f"Step nap sleeps until {at:%Y-%m-%d %H:%M:%S} UTC, for 2 h more."
    assert explain.explain(lab.ledger, run_id, "nap").sentence == said
    assert reads.steps.get(lab.ledger, run_id, "nap").wake_at == at


def test_a_fault_in_the_middle_leaves_all_or_nothing(lab: Lab) -> None:
    """A keeper that dies before the commit has done nothing, and the next one does it."""
    run_id = sleeping(lab, "1m")
    lab.do(run_id, "a")
    lab.forward(61)

    class Dead(BaseException):
        pass

    def die() -> None:
        raise Dead

    for point, status in (("wake.selected", "waiting"), ("wake.committed", "succeeded")):
        faults.arm(point, die)
        with pytest.raises(Dead):
            wake(lab.ledger)
        faults.disarm()
        assert lab.step(run_id, "nap")["status"] == status
    lab.do(run_id, "b")


def test_a_cancel_and_a_wake_take_turns(lab: Lab) -> None:
    """Whoever has the run first: the wait is over before the run is cancelled, or is cancelled with it."""
    lab.flow({"nap": wait(sleep="1m"), "b": after("nap")})
    seen = set()
    for _ in range(10):
        run_id = lab.start()
        lab.forward(61)
        lab.race(
            lambda: wake(lab.ledger),
            lambda run_id=run_id: cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=GRACE),
        )
        wake(lab.ledger)
        assert lab.status(run_id) is RunStatus.CANCELLED
        seen.add((lab.step(run_id, "nap")["status"], lab.step(run_id, "b")["status"]))
    assert seen <= {("succeeded", "cancelled"), ("cancelled", "cancelled")}


@pytest.mark.parametrize("output", [None, "null"])
def test_a_wait_is_skipped_or_marked_by_an_operator(lab: Lab, output: str | None) -> None:
    """Then its run goes on at once, and nothing wakes it any more."""
    run_id = lab.run({"nap": wait(sleep="1h"), "b": after("nap")})
    settle_step.settle(lab.ledger, Settle(run_id, "nap", output=output, by="ada", reason="no need"))
    assert lab.step(run_id, "nap")["wake_at"] is None
    lab.forward(3601)
    assert wake(lab.ledger).changed == 0
    assert lab.drain(run_id) == ([] if output is None else ["b"])
    assert lab.status(run_id) is RunStatus.SUCCEEDED
