"""A step that calls a flow: its run is started, told, stopped and retried with the run that called it."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.core.facts import Dispatch
from orchestrator.core.manifest import Manifest
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.engine import faults
from orchestrator.engine.flows import switch
from orchestrator.engine.runs import cancel_run, delete_run
from orchestrator.engine.steps import retry_step
from orchestrator.engine.subflows import report, stopping
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import Conflict
from orchestrator.ledger import reads
from tests.support.eventually import eventually
from tests.support.factories import Lab, after, call, keys, retry

GRACE = timedelta(seconds=10)


class Boom(Exception):
    """A process that dies."""


def calls(flow: str = "child", /, **fields: Any) -> dict[str, Any]:
    """A step that calls a flow."""
    return {"flow": flow, **fields}


def read(key: str) -> dict[str, Any]:
    """A step that reads the result of another."""
    return call(inputs={"x": f"@steps('{key}').output"})


PARENT = {"sub": calls(inputs={"x": "@triggerBody().x"}), "end": read("sub")}


@pytest.fixture
def pair(lab: Lab) -> Iterator[Lab]:
    """A lab that has a flow `child` of one step, which gives its output."""
    child(lab)
    yield lab
    assert lab.rows("SELECT id FROM flow_runs WHERE ended_at IS NOT NULL AND NOT parent_told") == []


def child(lab: Lab, **fields: Any) -> Manifest:
    return lab.flow({"a": call(inputs={"x": "@triggerBody().x"})}, name="child", output="@steps('a').output", **fields)


def child_of(lab: Lab, run_id: UUID, key: str = "sub") -> UUID:
    """The run that a step called last."""
    found = lab.step(run_id, key)["child_run_id"]
    assert isinstance(found, UUID)
    return found


def tell(lab: Lab) -> tuple[Dispatch, ...]:
    return report.untold(lab.ledger).dispatches


def cancel(lab: Lab, run_id: UUID) -> RunStatus:
    return stopping.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=GRACE)


def error(lab: Lab, run_id: UUID) -> Any:
    return lab.run_row(run_id)["error"]


# ---- the way there and back ----


def test_the_run_is_started_in_the_commit_that_opens_the_step_and_its_end_is_that_of_the_step(pair: Lab) -> None:
    run_id = pair.run({"first": call(), "sub": calls(inputs={"x": "@steps('first').output"}), "end": read("sub")})
    finished = pair.do(run_id, "first")
    made = child_of(pair, run_id)
    assert [(one.run_id, one.step_key) for one in finished.dispatches] == [(made, "a")]
    row = pair.run_row(made)
    assert (row["parent_run_id"], row["parent_step_key"], row["trigger_type"]) == (run_id, "sub", "flow")
    assert row["trigger_body"] == {"x": "first"}
    assert pair.statuses(run_id) == {"first": "succeeded", "sub": "running", "end": "blocked"}
    assert pair.status(run_id) is RunStatus.RUNNING
    ended = pair.do(made, "a", output={"deep": 1})
    assert (ended.run_status, ended.untold) == (RunStatus.SUCCEEDED, True)
    assert keys(report.tell(pair.ledger, made)) == ["end"]
    assert reads.steps.output(pair.ledger, run_id, "sub") == {"deep": 1}
    assert report.tell(pair.ledger, made) == ()
    pair.do(run_id, "end")
    assert pair.status(run_id) is RunStatus.SUCCEEDED
    assert [one for one in pair.events(run_id) if "sub" in one] == ["step.delegated sub", "step.succeeded sub"]
    first, *_, last = reads.events.of_run(pair.ledger, made)
    assert (last.type, last.facts) == ("run.reported", {"parent": str(run_id), "step": "sub"})
    assert (first.type, first.facts) == ("run.accepted", {"parent": str(run_id), "step": "sub"})


def test_a_call_may_be_the_first_step_and_the_last(pair: Lab) -> None:
    pair.flow({"sub": calls("child")}, name="middle", output="@steps('sub').output")
    run_id = pair.run({"sub": calls("middle", inputs={"x": 1})}, output="@steps('sub').output")
    middle = child_of(pair, run_id)
    lowest = child_of(pair, middle)
    pair.do(lowest, "a", output=7)
    report.tell(pair.ledger, lowest)
    assert [pair.status(one) for one in (lowest, middle, run_id)] == [RunStatus.SUCCEEDED] * 3
    assert reads.runs.result(pair.ledger, run_id) == 7


def test_a_run_without_steps_ends_the_step_at_once(pair: Lab) -> None:
    pair.flow({}, name="empty", output="nothing")
    run_id = pair.run({"sub": calls("empty"), "end": read("sub")})
    assert pair.ready(run_id) == ["end"]
    assert reads.steps.output(pair.ledger, run_id, "sub") == "nothing"


def test_the_keeper_tells_what_nobody_told(pair: Lab) -> None:
    run_id = pair.run(PARENT, {"x": 1})
    pair.do(child_of(pair, run_id), "a")
    assert keys(tell(pair)) == ["end"]
    assert tell(pair) == ()


def test_tags_are_handed_on_and_the_deadline_is_cut(pair: Lab) -> None:
    child(pair, tags=("own",), deadline="PT1H")
    pair.flow(PARENT, deadline="PT10M")
    run_id = pair.start(body={"x": 1}, tags=("night",))
    made = child_of(pair, run_id)
    assert pair.run_row(made)["tags"] == ["own", "night"]
    deadlines = pair.rows("SELECT run_id, deadline FROM flow_run_controls")
    assert len({row["deadline"] for row in deadlines}) == 1
    pair.forward(601)
    while sweep.deadlines(pair.ledger, GRACE).changed:
        pass
    tell(pair)
    assert pair.status(run_id) is pair.status(made) is RunStatus.TIMED_OUT


def test_a_version_can_be_named(pair: Lab) -> None:
    pair.flow({"new": call()}, name="child")
    run_id = pair.run({"sub": calls(flow_version=1, inputs={"x": 1})})
    assert pair.statuses(child_of(pair, run_id)) == {"a": "ready"}


def test_a_detached_run_is_nobodys(pair: Lab) -> None:
    run_id = pair.run({"sub": calls(detached=True, inputs={"x": 1}), "end": read("sub")})
    made = child_of(pair, run_id)
    assert reads.steps.output(pair.ledger, run_id, "sub") == str(made)
    cancel(pair, run_id)
    assert pair.status(run_id) is RunStatus.CANCELLED
    assert pair.status(made) is RunStatus.PENDING
    assert pair.do(made, "a").untold is False


# ---- refused ----


@pytest.mark.parametrize(
    ("flow", "inputs", "kind", "says"),
    [
        ("child", {}, "orchestrator.errors.InputInvalid", "`x` is missing|required"),
        ("child", {"x": "@steps('first').output"}, None, None),
        ("nosuch", {}, "orchestrator.errors.FlowNotFound", "No flow 'nosuch' is registered"),
    ],
)
def test_what_cannot_be_started_fails_the_step(
    lab: Lab, flow: str, inputs: dict[str, Any], kind: str | None, says: str | None
) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    lab.flow({"a": call()}, name="child", input_schema=schema)
    run_id = lab.run({"first": call(), "sub": calls(flow, inputs=inputs, run_after={"first": ["succeeded"]})})
    lab.do(run_id, "first")
    if kind is None:
        assert lab.statuses(run_id)["sub"] == "running"
        return
    assert lab.status(run_id) is RunStatus.FAILED
    assert error(lab, run_id)["type"] == kind
    assert re.search(says or "", error(lab, run_id)["message"])
    assert lab.rows("SELECT id FROM flow_runs WHERE parent_run_id IS NOT NULL") == []


def test_a_disabled_flow_is_waited_for_by_the_retries(pair: Lab) -> None:
    switch.disable(pair.ledger, "child", "ada", "broken")
    pair.ledger.current.clear()
    run_id = pair.run({"sub": calls(inputs={"x": 1}, retry=retry(2, 60.0))})
    assert pair.statuses(run_id) == {"sub": "waiting"}
    switch.enable(pair.ledger, "child", "ada")
    pair.forward(61)
    assert keys(wake(pair.ledger).dispatches) == ["a"]
    assert pair.statuses(run_id) == {"sub": "running"}


def test_runs_do_not_call_each_other_for_ever(lab: Lab) -> None:
    lab.flow({"again": calls("deep")}, name="deep")
    run_id = lab.start("deep")
    (count,) = lab.rows("SELECT count(*) AS n FROM flow_runs")
    assert count["n"] == 10
    while tell(lab):
        pass
    assert lab.status(run_id) is RunStatus.FAILED
    (last,) = lab.rows("SELECT error FROM flow_runs ORDER BY id DESC LIMIT 1")
    assert last["error"]["type"] == "TooDeep"


# ---- failure ----


def test_each_retry_is_a_new_run_and_the_last_failure_is_the_steps(pair: Lab) -> None:
    run_id = pair.run({"sub": calls(inputs={"x": 1}, retry=retry(2, 60.0)), "end": read("sub")})
    first = child_of(pair, run_id)
    pair.do_fail(first, "a")
    tell(pair)
    assert pair.statuses(run_id) == {"sub": "waiting", "end": "blocked"}
    assert pair.status(run_id) is RunStatus.WAITING
    pair.forward(61)
    wake(pair.ledger)
    second = child_of(pair, run_id)
    assert second != first
    pair.do_fail(second, "a")
    tell(pair)
    assert pair.statuses(run_id) == {"sub": "failed", "end": "skipped"}
    said = {"step": "sub", "type": "RunFailed", "message": f"run {second} of child failed at a: ValueError: boom"}
    assert error(pair, run_id) == said


@pytest.mark.parametrize("done", [True, False], ids=["succeeded", "open"])
def test_a_retry_by_itself_goes_on_with_a_run_that_somebody_mended_meanwhile(pair: Lab, done: bool) -> None:
    """A second one would do the same again."""
    run_id = pair.run({"sub": calls(inputs={"x": 1}, retry=retry(3, 60.0)), "end": read("sub")})
    first = child_of(pair, run_id)
    pair.do_fail(first, "a")
    tell(pair)
    assert pair.statuses(run_id) == {"sub": "waiting", "end": "blocked"}
    retry_step.retry(pair.ledger, first, None, by="ada")
    if done:
        pair.do(first, "a", output=5)
        tell(pair)
    pair.forward(61)
    dispatches = wake(pair.ledger).dispatches
    assert child_of(pair, run_id) == first
    if not done:
        assert pair.statuses(run_id) == {"sub": "running", "end": "blocked"}
        pair.do(first, "a", output=5)
        dispatches = tell(pair)
    assert keys(dispatches) == ["end"]
    assert reads.steps.output(pair.ledger, run_id, "sub") == 5
    assert "step.adopted sub" in pair.events(run_id)


def test_a_child_that_is_cancelled_by_hand_fails_the_step(pair: Lab) -> None:
    run_id = pair.run({**PARENT, "sorry": call(run_after={"sub": ["failed"]})}, {"x": 1})
    made = child_of(pair, run_id)
    cancel(pair, made)
    assert keys(tell(pair)) == ["sorry"]
    assert pair.statuses(run_id) == {"sub": "failed", "end": "skipped", "sorry": "ready"}
    assert "was cancelled by ada: enough" in pair.step(run_id, "sub")["reason"]


# ---- stopped ----


def test_a_cancel_reaches_all_below_and_the_run_ends_when_they_have(pair: Lab) -> None:
    pair.flow({"sub": calls("child", inputs={"x": 1})}, name="middle")
    run_id = pair.run({"one": calls("middle"), "two": calls("middle"), "own": call()})
    middles = [child_of(pair, run_id, key) for key in ("one", "two")]
    lowest = [child_of(pair, one) for one in middles]
    held = pair.take(lowest[0], "a")
    assert cancel(pair, run_id) is RunStatus.RUNNING
    assert pair.status(lowest[1]) is RunStatus.CANCELLED
    tell(pair)
    assert pair.status(run_id) is RunStatus.RUNNING
    pair.fail(held)
    tell(pair)
    assert {pair.status(one) for one in (run_id, *middles, *lowest)} == {RunStatus.CANCELLED}
    assert error(pair, middles[1])["message"] == f"run {run_id}, which called it, was cancelled: enough"


def test_keepers_stop_what_nobody_stopped(pair: Lab) -> None:
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    cancel_run.cancel(pair.ledger, run_id, by="ada", reason="enough", grace=GRACE)
    assert pair.status(made) is RunStatus.PENDING
    assert stopping.stop_children(pair.ledger, None, GRACE).changed == 1
    assert stopping.stop_children(pair.ledger, None, GRACE).changed == 0
    tell(pair)
    assert pair.status(run_id) is pair.status(made) is RunStatus.CANCELLED


def test_a_child_that_succeeds_after_the_cancel_revives_nothing(pair: Lab) -> None:
    """X8: its end is written on the step, and the run ends cancelled."""
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    held = pair.take(made, "a")
    cancel_run.cancel(pair.ledger, run_id, by="ada", reason="enough", grace=GRACE)
    pair.done(held, "late")
    assert tell(pair) == ()
    assert pair.statuses(run_id) == {"sub": "succeeded", "end": "cancelled"}
    assert pair.status(run_id) is RunStatus.CANCELLED


# ---- operators ----


def test_a_retry_of_the_parent_goes_on_with_the_run_that_was_called(pair: Lab) -> None:
    """X10: a second run would do everything again."""
    pair.flow({"a": call(), "b": after("a")}, name="child", output="@steps('b').output")
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    pair.do(made, "a")
    pair.do_fail(made, "b")
    tell(pair)
    assert pair.status(run_id) is RunStatus.FAILED
    dispatches = retry_step.retry(pair.ledger, run_id, None, by="ada")
    assert [(one.run_id, one.step_key) for one in dispatches] == [(made, "b")]
    assert child_of(pair, run_id) == made
    pair.do(made, "b", output=3)
    assert keys(tell(pair)) == ["end"]
    pair.do(run_id, "end")
    assert pair.status(run_id) is RunStatus.SUCCEEDED
    assert reads.steps.output(pair.ledger, run_id, "sub") == 3


def test_a_child_that_was_mended_alone_is_taken_as_it_is(pair: Lab) -> None:
    """X9: while the parent has ended, nobody is told; its retry takes what is there."""
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    pair.do_fail(made, "a")
    tell(pair)
    retry_step.retry(pair.ledger, made, None, by="ada")
    pair.do(made, "a", output=5)
    assert tell(pair) == ()
    assert pair.statuses(run_id) == {"sub": "failed", "end": "skipped"}
    assert keys(retry_step.retry(pair.ledger, run_id, "sub", by="ada")) == ["end"]
    assert reads.steps.output(pair.ledger, run_id, "sub") == 5


def test_a_child_that_is_retried_before_the_parent_is_waited_for(pair: Lab) -> None:
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    pair.do_fail(made, "a")
    tell(pair)
    retry_step.retry(pair.ledger, made, None, by="ada")
    assert retry_step.retry(pair.ledger, run_id, None, by="ada") == ()
    pair.do(made, "a")
    assert keys(tell(pair)) == ["end"]


def test_fresh_and_a_child_that_is_gone_start_a_new_run(pair: Lab) -> None:
    run_id = pair.run(PARENT, {"x": 1})
    first = child_of(pair, run_id)
    pair.do_fail(first, "a")
    tell(pair)
    retry_step.retry(pair.ledger, run_id, None, by="ada", fresh=True)
    second = child_of(pair, run_id)
    assert second != first
    pair.do_fail(second, "a")
    tell(pair)
    delete_run.delete(pair.ledger, second, by="ada")
    retry_step.retry(pair.ledger, run_id, None, by="ada")
    assert child_of(pair, run_id) not in (first, second)


def test_a_cancelled_pair_goes_on_together(pair: Lab) -> None:
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    cancel(pair, run_id)
    tell(pair)
    assert keys(retry_step.retry(pair.ledger, run_id, None, by="ada")) == ["a"]
    pair.do(made, "a")
    assert keys(tell(pair)) == ["end"]


def test_what_the_child_refuses_refuses_the_retry(pair: Lab) -> None:
    pair.flow({"a": call(), "refund": call(run_after={"a": ["failed"]}), "b": after("a")}, name="child")
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    pair.do_fail(made, "a")
    pair.do_fail(made, "refund")
    tell(pair)
    pair.execute("UPDATE flow_steps SET status = 'succeeded' WHERE run_id = %s AND step_key = 'refund'", made)
    with pytest.raises(Conflict, match=f"Run {made} cannot be retried"):
        retry_step.retry(pair.ledger, run_id, None, by="ada")
    assert pair.status(run_id) is RunStatus.FAILED
    retry_step.retry(pair.ledger, run_id, None, by="ada", force=True)
    pair.execute("UPDATE flow_steps SET status = 'failed' WHERE run_id = %s AND step_key = 'refund'", made)
    cancel(pair, run_id)
    tell(pair)
    pair.execute("DELETE FROM test_moves")


# ---- two at once ----


def test_the_end_of_a_child_and_a_cancel_of_its_parent_take_turns(pair: Lab) -> None:
    for _ in range(10):
        run_id = pair.run(PARENT, {"x": 1})
        made = child_of(pair, run_id)
        held = pair.take(made, "a")

        def end(held: Any = held, made: UUID = made) -> None:
            pair.done(held)
            report.tell(pair.ledger, made)

        pair.race(end, lambda run_id=run_id: cancel(pair, run_id))
        while tell(pair) or stopping.stop_children(pair.ledger, None, GRACE).changed:
            pass
        assert pair.status(made) in FINAL_RUN
        assert pair.status(run_id) is RunStatus.CANCELLED


def test_two_who_tell_tell_once(pair: Lab) -> None:
    for _ in range(10):
        run_id = pair.run(PARENT, {"x": 1})
        made = child_of(pair, run_id)
        pair.do(made, "a")
        told = pair.race(lambda made=made: report.tell(pair.ledger, made), lambda: tell(pair))
        assert sorted(map(len, told)) == [0, 1], told
        pair.do(run_id, "end")


def test_whoever_tells_waits_for_the_parent_and_not_for_the_child(pair: Lab) -> None:
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    with pair.holding("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE", run_id):
        pair.do(made, "a")
        telling = pair.later(lambda: report.tell(pair.ledger, made))
        eventually(lambda: pair.waiting_sessions() >= 1, message="nobody waits for the parent")
        pair.execute("SELECT 1 FROM flow_runs WHERE id = %s FOR UPDATE NOWAIT", made)
    assert keys(telling.result()) == ["end"]


def test_a_retry_of_the_child_and_one_of_the_parent_take_turns(pair: Lab) -> None:
    for _ in range(10):
        run_id = pair.run(PARENT, {"x": 1})
        made = child_of(pair, run_id)
        pair.do_fail(made, "a")
        tell(pair)
        done = pair.race(
            lambda made=made: retry_step.retry(pair.ledger, made, None, by="one"),
            lambda run_id=run_id: retry_step.retry(pair.ledger, run_id, None, by="two"),
        )
        assert not any(isinstance(one, Exception) and not isinstance(one, Conflict) for one in done), done
        pair.do(made, "a")
        tell(pair)
        if pair.status(run_id) is RunStatus.FAILED:  # the one of the parent came to a child that was open already
            retry_step.retry(pair.ledger, run_id, None, by="two")
        assert pair.statuses(run_id)["sub"] == "succeeded"


# ---- death ----


@pytest.mark.parametrize("point", ["call.accepted", "report.before", "report.committed"])
def test_death_at_any_point_loses_nothing(pair: Lab, point: str) -> None:
    def die() -> None:
        faults.disarm()
        raise Boom

    pair.flow({"first": call(), **PARENT, "sub": {**PARENT["sub"], "run_after": {"first": ["succeeded"]}}})
    run_id = pair.start(body={"x": 1})
    first = pair.take(run_id, "first")
    faults.arm(point, die)
    if point == "call.accepted":
        with pytest.raises(Boom):
            pair.done(first)
        assert pair.rows("SELECT id FROM flow_runs WHERE parent_run_id IS NOT NULL") == []
        pair.done(first)
    else:
        pair.done(first)
        made = child_of(pair, run_id)
        pair.do(made, "a")
        with pytest.raises(Boom):
            report.tell(pair.ledger, made)
    faults.disarm()
    made = child_of(pair, run_id)
    if pair.status(made) not in FINAL_RUN:
        pair.do(made, "a")
    tell(pair)
    pair.do(run_id, "end")
    assert pair.status(run_id) is RunStatus.SUCCEEDED
    (count,) = pair.rows("SELECT count(*) AS n FROM flow_runs WHERE parent_run_id = %s", run_id)
    assert count["n"] == 1


# ---- manifests ----


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"flow": "a b"}, "flow"),
        ({"flow": "child", "type": "work"}, "a call of a flow has no `type`"),
        ({"flow": "child", "timeout": "PT1S"}, "a call of a flow has no `timeout`"),
        ({"flow": "child", "flow_version": 0}, "flow_version"),
        ({"type": "work", "detached": True}, "only a call of a flow has `detached`"),
    ],
)
def test_a_wrong_call_is_refused_with_its_place(step: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=says):
        Manifest(name="x", steps={"s": step})


def test_only_calls_need_the_second_format() -> None:
    assert Manifest(name="x", steps={"s": call()}).format == 1
    made = Manifest(name="x", steps={"s": calls(inputs={"x": 1}, detached=True, flow_version=2)})
    assert made.format == 2
    assert Manifest.from_json(made.to_json()) == made
    assert json.loads(made.to_json())["steps"]["s"] == {
        "flow": "child",
        "inputs": {"x": 1},
        "detached": True,
        "flow_version": 2,
    }


def test_a_parent_that_is_gone_is_no_obstacle(pair: Lab) -> None:
    run_id = pair.run(PARENT, {"x": 1})
    made = child_of(pair, run_id)
    pair.do(made, "a")
    pair.execute("UPDATE flow_runs SET parent_run_id = %s WHERE id = %s", uuid4(), made)
    assert tell(pair) == ()
    pair.execute("UPDATE flow_runs SET parent_run_id = %s, parent_told = FALSE WHERE id = %s", run_id, made)
    assert keys(tell(pair)) == ["end"]
