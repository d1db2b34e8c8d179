"""Calls of flows inside of loops: each is a run of its own, which is told, stopped and gone on with as any other."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import StepError
from orchestrator.core.settling import Settle
from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.runs import delete_run, explain, rerun
from orchestrator.engine.steps import advance, retry_step, settle_step
from orchestrator.engine.subflows import report, stopping
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import Conflict
from orchestrator.ledger import reads
from tests.support.factories import Lab, after, call, keys, retry

GRACE = timedelta(seconds=10)
SHIP = {"flow": "child", "inputs": {"x": "@item()"}}
"""A call of a flow for each item."""


class Boom(Exception):
    """A process that dies."""


@pytest.fixture
def pair(lab: Lab) -> Iterator[Lab]:
    """A lab that has a flow `child` of one step, which gives its output."""
    lab.flow({"a": call(inputs={"x": "@triggerBody().x"})}, name="child", output="@steps('a').output")
    yield lab
    faults.disarm()
    assert lab.rows("SELECT id FROM flow_runs WHERE ended_at IS NOT NULL AND NOT parent_told") == []


def loop(steps: dict[str, Any] | None = None, for_each: Any = "@triggerBody().xs", **fields: Any) -> dict[str, Any]:
    return {"for_each": for_each, "steps": steps or {"ship": SHIP}, **fields}


def run_of(lab: Lab, count: int = 3, steps: dict[str, Any] | None = None, **fields: Any) -> UUID:
    """A loop, and a step that takes its list."""
    fields = {"output": "@steps('ship').output", **fields}
    made = {"each": loop(steps, **fields), "join": call(inputs={"all": "@steps('each').output"})}
    return lab.run(made, {"xs": list(range(count))})


def children(lab: Lab, run_id: UUID) -> dict[str, UUID]:
    """The runs that steps of a run called last, by step."""
    rows = lab.rows("SELECT step_key, child_run_id FROM flow_steps WHERE run_id = %s ORDER BY step_key", run_id)
    return {row["step_key"]: row["child_run_id"] for row in rows if row["child_run_id"] is not None}


def made(lab: Lab, run_id: UUID) -> int:
    """How many runs a run called, in all."""
    return int(lab.rows("SELECT count(*) AS n FROM flow_runs WHERE parent_run_id = %s", run_id)[0]["n"])


def tell(lab: Lab) -> list[str]:
    """Tell all that nobody was told."""
    found = []
    while dispatches := report.untold(lab.ledger).dispatches:
        found += keys(dispatches)
    return found


def items(lab: Lab, run_id: UUID) -> list[str]:
    """Where the items stand."""
    found = {key: status for key, status in lab.statuses(run_id).items() if key.count(".") == 1}
    return [found[f"each.{n}"] for n in range(len(found))]


def output(lab: Lab, run_id: UUID, key: str = "each") -> Any:
    return reads.steps.output(lab.ledger, run_id, key)


# ---- there and back ----


def test_one_transaction_starts_a_few_runs_and_keepers_the_others(pair: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the run must not wait for all of them."""
    monkeypatch.setattr(advance, "CALLS", 3)
    run_id = run_of(pair, 8)
    assert made(pair, run_id) == 3
    assert explain.explain(pair.ledger, run_id, "each.7.ship").sentence == (
        "Step each.7.ship waits for its turn: child is run for it as soon as a keeper gets to it."
    )
    found = []
    while (swept := wake(pair.ledger)).changed:
        found.append((made(pair, run_id), swept.more))
    assert found == [(6, True), (8, False)]
    for n, child in enumerate(children(pair, run_id).values()):
        pair.do(child, "a", output=n)
        report.tell(pair.ledger, child)
    assert output(pair, run_id) == list(range(8))


def test_what_waits_for_its_turn_is_cancelled_as_any_wait(pair: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "CALLS", 2)
    run_id = run_of(pair, 5)
    stopping.cancel(pair.ledger, run_id, by="ada", reason="not wanted", grace=GRACE)
    tell(pair)
    assert pair.run_row(run_id)["status"] == RunStatus.CANCELLED
    assert wake(pair.ledger).changed == 0
    assert made(pair, run_id) == 2


def test_an_operator_goes_on_with_all_runs_at_once(pair: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started later, they would be new ones."""
    run_id, called = fail_some(pair, 5)
    monkeypatch.setattr(advance, "CALLS", 1)
    retry_step.retry(pair.ledger, run_id, None, by="ada")
    assert children(pair, run_id) == called
    assert made(pair, run_id) == 5


def test_each_item_is_a_run_and_the_loop_gives_what_they_return(pair: Lab) -> None:
    run_id = run_of(pair)
    called = children(pair, run_id)
    assert list(called) == ["each.0.ship", "each.1.ship", "each.2.ship"]
    for n, child in enumerate(called.values()):
        row = pair.run_row(child)
        assert (row["parent_run_id"], row["parent_step_key"]) == (run_id, f"each.{n}.ship")
        assert row["trigger_body"] == {"x": n}
    assert items(pair, run_id) == ["running"] * 3
    for n in (2, 0, 1):
        pair.do(called[f"each.{n}.ship"], "a", output=f"got {n}")
        report.tell(pair.ledger, called[f"each.{n}.ship"])
        assert pair.statuses(run_id)[f"each.{n}"] == "succeeded"
    assert output(pair, run_id) == ["got 0", "got 1", "got 2"]
    pair.do(run_id, "join")
    assert pair.status(run_id) is RunStatus.SUCCEEDED


def test_a_call_may_stand_anywhere_in_an_item(pair: Lab) -> None:
    steps = {
        "pick": call(inputs={"x": "@item()"}),
        "ship": {"flow": "child", "inputs": {"x": "@steps('pick').output"}},
        "seal": call(inputs={"x": "@steps('ship').output"}),
        "file": {"flow": "child", "inputs": {"x": "@steps('seal').output"}},
    }
    run_id = run_of(pair, 2, steps, output="@steps('file').output")
    pair.do(run_id, "each.1.pick", output="p")
    ship = children(pair, run_id)["each.1.ship"]
    assert pair.run_row(ship)["trigger_body"] == {"x": "p"}
    pair.do(ship, "a", output="s")
    assert keys(report.tell(pair.ledger, ship)) == ["each.1.seal"]
    lease = pair.take(run_id, "each.1.seal")
    assert pair.inputs(lease) == {"x": "s"}
    pair.done(lease, "t")
    last = children(pair, run_id)["each.1.file"]
    pair.do(last, "a", output="u")
    report.tell(pair.ledger, last)
    assert pair.statuses(run_id)["each.1"] == "succeeded"
    assert output(pair, run_id, "each.1") == "u"


def test_items_go_through_the_window(pair: Lab) -> None:
    run_id = run_of(pair, 5, concurrency=2)
    for n in range(5):
        assert list(children(pair, run_id)) == [f"each.{i}.ship" for i in range(min(n + 2, 5))]
        child = children(pair, run_id)[f"each.{n}.ship"]
        pair.do(child, "a", output=n)
        report.tell(pair.ledger, child)
    assert output(pair, run_id) == [0, 1, 2, 3, 4]
    pair.do(run_id, "join")


def test_runs_without_steps_end_their_items_at_once(pair: Lab) -> None:
    pair.flow({}, name="empty", output="nothing")
    run_id = run_of(pair, 5, {"ship": {"flow": "empty"}}, concurrency=2)
    assert output(pair, run_id) == ["nothing"] * 5
    assert pair.ready(run_id) == ["join"]


def test_a_loop_in_an_item_calls_too(pair: Lab) -> None:
    inner = loop({"ship": {"flow": "child", "inputs": {"x": "@item()", "of": "@item('each')"}}}, "@item()")
    inner["output"] = "@steps('ship').output"
    run_id = pair.run({"each": loop({"all": inner}, output="@steps('all').output")}, {"xs": [[1, 2], [3]]})
    called = children(pair, run_id)
    assert list(called) == ["each.0.all.0.ship", "each.0.all.1.ship", "each.1.all.0.ship"]
    assert pair.run_row(called["each.0.all.1.ship"])["trigger_body"] == {"x": 2, "of": [1, 2]}
    for key, child in called.items():
        pair.do(child, "a", output=key)
    tell(pair)
    assert output(pair, run_id) == [["each.0.all.0.ship", "each.0.all.1.ship"], ["each.1.all.0.ship"]]
    assert pair.status(run_id) is RunStatus.SUCCEEDED


def test_detached_runs_are_nobodys(pair: Lab) -> None:
    run_id = run_of(pair, 2, {"ship": {**SHIP, "detached": True}})
    assert output(pair, run_id) == [str(child) for child in children(pair, run_id).values()]
    assert pair.ready(run_id) == ["join"]


def test_the_depth_is_limited_inside_of_items_too(lab: Lab) -> None:
    lab.flow({"each": loop({"again": {"flow": "deep", "inputs": {"xs": [1]}}})}, name="deep")
    run_id = lab.start("deep", {"xs": [1]})
    assert lab.rows("SELECT count(*) AS n FROM flow_runs")[0]["n"] == 10
    tell(lab)
    assert lab.status(run_id) is RunStatus.FAILED
    (last,) = lab.rows("SELECT id FROM flow_runs ORDER BY id DESC LIMIT 1")
    assert "TooDeep" in str(reads.events.of_run(lab.ledger, last["id"]))


# ---- failure ----


def test_a_run_that_fails_fails_its_item(pair: Lab) -> None:
    run_id = run_of(pair)
    called = children(pair, run_id)
    pair.do_fail(called["each.1.ship"], "a", error=StepError("Torn", "the box is torn"))
    pair.do(called["each.0.ship"], "a")
    pair.do(called["each.2.ship"], "a")
    tell(pair)
    assert items(pair, run_id) == ["succeeded", "failed", "succeeded"]
    why = f"ship failed: run {called['each.1.ship']} of child failed at a: Torn: the box is torn"
    assert pair.step(run_id, "each")["reason"] == f"1 of its items failed; the first, each.1: {why}"
    assert pair.status(run_id) is RunStatus.FAILED


def test_errors_are_collected_with_their_types(pair: Lab) -> None:
    steps = {
        "ok": {"require": "@item() != 2", "message": "not two"},
        "ship": {**SHIP, "run_after": {"ok": ["succeeded"]}},
    }
    run_id = run_of(pair, 3, steps, errors="collect")
    called = children(pair, run_id)
    pair.do_fail(called["each.0.ship"], "a")
    pair.do(called["each.1.ship"], "a", output="b")
    tell(pair)
    first, second, third = output(pair, run_id)
    why = f"run {called['each.0.ship']} of child failed at a: ValueError: boom"
    assert first["error"] == {"step": "each.0.ship", "type": "RunFailed", "message": why}
    assert (second["ok"], second["value"]) == (True, "b")
    assert (third["error"]["step"], third["error"]["type"]) == ("each.2.ok", "RequirementFailed")
    pair.do(run_id, "join")


def test_a_loop_stops_at_a_run_that_fails(pair: Lab) -> None:
    run_id = run_of(pair, 4, concurrency=2, stop_on_failure=True)
    called = children(pair, run_id)
    pair.do_fail(called["each.0.ship"], "a")
    tell(pair)
    assert items(pair, run_id) == ["failed", "running", "skipped", "skipped"]
    pair.do(called["each.1.ship"], "a")
    tell(pair)
    assert pair.status(run_id) is RunStatus.FAILED
    assert made(pair, run_id) == 2


def test_a_failure_may_be_handled_in_its_item(pair: Lab) -> None:
    steps = {"ship": SHIP, "sorry": call(run_after={"ship": ["failed"]})}
    run_id = run_of(pair, 1, steps, output="@steps('ship').output ?? 'none'")
    pair.do_fail(children(pair, run_id)["each.0.ship"], "a")
    assert tell(pair) == ["each.0.sorry"]
    pair.do(run_id, "each.0.sorry")
    assert output(pair, run_id) == ["none"]
    pair.do(run_id, "join")


def test_each_retry_is_a_new_run_and_keeps_its_place(pair: Lab) -> None:
    run_id = run_of(pair, 2, {"ship": {**SHIP, "retry": retry(2, 60.0)}}, concurrency=1)
    first = children(pair, run_id)["each.0.ship"]
    pair.do_fail(first, "a")
    tell(pair)
    assert pair.statuses(run_id)["each.0.ship"] == "waiting"
    assert items(pair, run_id) == ["running", "blocked"]
    pair.forward(61)
    assert keys(wake(pair.ledger).dispatches) == ["a"]
    second = children(pair, run_id)["each.0.ship"]
    assert second != first
    pair.do(second, "a")
    tell(pair)
    assert items(pair, run_id) == ["succeeded", "running"]
    pair.do(children(pair, run_id)["each.1.ship"], "a")
    assert tell(pair) == ["join"]


def test_what_cannot_be_started_fails_the_item(lab: Lab) -> None:
    run_id = run_of(lab, 2, {"ship": {"flow": "nosuch"}}, errors="collect")
    assert [one["error"]["type"] for one in output(lab, run_id)] == ["orchestrator.errors.FlowNotFound"] * 2
    lab.do(run_id, "join")


# ---- stopped ----


def test_a_cancel_reaches_the_runs_of_all_items(pair: Lab) -> None:
    run_id = run_of(pair, 4, concurrency=3)
    called = children(pair, run_id)
    held = pair.take(called["each.1.ship"], "a")
    stopping.cancel(pair.ledger, run_id, by="ada", reason="enough", grace=GRACE)
    tell(pair)
    assert pair.status(run_id) is RunStatus.RUNNING
    pair.done(held, "late")
    tell(pair)
    assert {pair.status(child) for key, child in called.items() if key != "each.1.ship"} == {RunStatus.CANCELLED}
    assert pair.status(run_id) is RunStatus.CANCELLED
    assert made(pair, run_id) == 3


def test_the_deadline_is_that_of_all_items(pair: Lab) -> None:
    pair.flow({"each": loop()}, deadline="PT10M")
    run_id = pair.start(body={"xs": [1, 2]})
    pair.forward(601)
    while sweep.deadlines(pair.ledger, GRACE).changed:
        pass
    stopping.stop_children(pair.ledger, None, GRACE)
    tell(pair)
    assert {pair.status(child) for child in children(pair, run_id).values()} == {RunStatus.TIMED_OUT}
    assert pair.status(run_id) is RunStatus.TIMED_OUT


# ---- operators ----


def fail_some(lab: Lab, count: int = 3, **fields: Any) -> tuple[UUID, dict[str, UUID]]:
    """A run of which the items 0 and 2 fail."""
    run_id = run_of(lab, count, **fields)
    for n in range(count):
        child = children(lab, run_id)[f"each.{n}.ship"]
        if n in (0, 2):
            lab.do_fail(child, "a")
        else:
            lab.do(child, "a", output=f"got {n}")
        tell(lab)
    assert lab.status(run_id) is RunStatus.FAILED
    return run_id, children(lab, run_id)


@pytest.mark.parametrize("concurrency", [None, 1])
def test_a_retry_goes_on_with_the_runs_that_failed(pair: Lab, concurrency: int | None) -> None:
    """X10: also those that the window lets in later, when a worker opens them."""
    window = {} if concurrency is None else {"concurrency": concurrency}
    run_id, called = fail_some(pair, **window)
    dispatches = retry_step.retry(pair.ledger, run_id, None, by="ada")
    expected = [called["each.0.ship"], called["each.2.ship"]][: concurrency or 2]
    assert sorted(one.run_id for one in dispatches) == expected
    for n in (0, 2):
        pair.do(called[f"each.{n}.ship"], "a", output=f"now {n}")
        report.tell(pair.ledger, called[f"each.{n}.ship"])
    assert children(pair, run_id) == called
    assert made(pair, run_id) == 3
    assert output(pair, run_id) == ["now 0", "got 1", "now 2"]
    pair.do(run_id, "join")
    assert pair.status(run_id) is RunStatus.SUCCEEDED
    assert pair.events(called["each.2.ship"]).count("run.retried") == 1


@pytest.mark.parametrize("key", ["each.2", "each.2.ship"])
def test_one_item_is_retried(pair: Lab, key: str) -> None:
    run_id, called = fail_some(pair)
    dispatches = retry_step.retry(pair.ledger, run_id, key, by="ada")
    assert [one.run_id for one in dispatches] == [called["each.2.ship"]]
    pair.do(called["each.2.ship"], "a")
    tell(pair)
    assert items(pair, run_id) == ["failed", "succeeded", "succeeded"]
    assert made(pair, run_id) == 3


def test_runs_that_were_mended_alone_are_taken_as_they_are(pair: Lab) -> None:
    run_id, called = fail_some(pair)
    retry_step.retry(pair.ledger, called["each.0.ship"], None, by="ada")
    pair.do(called["each.0.ship"], "a", output="mended")
    retry_step.retry(pair.ledger, called["each.2.ship"], None, by="ada")  # and goes on still
    tell(pair)
    assert retry_step.retry(pair.ledger, run_id, None, by="ada") == ()
    pair.do(called["each.2.ship"], "a", output="later")
    assert tell(pair) == ["join"]
    assert output(pair, run_id) == ["mended", "got 1", "later"]
    assert made(pair, run_id) == 3


@pytest.mark.parametrize("concurrency", [None, 1])
def test_fresh_starts_a_new_run_for_each_that_failed(pair: Lab, concurrency: int | None) -> None:
    window = {} if concurrency is None else {"concurrency": concurrency}
    run_id, called = fail_some(pair, **window)
    retry_step.retry(pair.ledger, run_id, None, by="ada", fresh=True)
    for n in (0, 2):
        child = children(pair, run_id)[f"each.{n}.ship"]
        assert child != called[f"each.{n}.ship"]
        pair.do(child, "a")
        tell(pair)
    assert made(pair, run_id) == 5
    pair.do(run_id, "join")


def test_a_run_that_is_gone_is_started_anew(pair: Lab) -> None:
    run_id, called = fail_some(pair)
    delete_run.delete(pair.ledger, called["each.0.ship"], by="ada")
    retry_step.retry(pair.ledger, run_id, None, by="ada")
    now = children(pair, run_id)
    assert now["each.0.ship"] != called["each.0.ship"]
    assert now["each.2.ship"] == called["each.2.ship"]


def test_a_run_that_was_given_something_else_is_not_gone_on_with(pair: Lab) -> None:
    """What stands before the call has failed then, and gives something now."""
    steps = {
        "ask": call(),
        "ship": {
            "flow": "child",
            "inputs": {"x": "@steps('ask').output ?? 'nothing'"},
            "run_after": {"ask": []},
            "join": "all_done",
        },
    }
    run_id = run_of(pair, 1, steps)
    pair.do_fail(run_id, "each.0.ask")
    first = children(pair, run_id)["each.0.ship"]
    assert pair.run_row(first)["trigger_body"] == {"x": "nothing"}
    pair.do_fail(first, "a")
    tell(pair)
    retry_step.retry(pair.ledger, run_id, None, by="ada")
    pair.do_fail(run_id, "each.0.ask")
    assert children(pair, run_id)["each.0.ship"] == first
    pair.do_fail(first, "a")
    tell(pair)
    retry_step.retry(pair.ledger, run_id, None, by="ada")
    pair.do(run_id, "each.0.ask", output="something")
    second = children(pair, run_id)["each.0.ship"]
    assert second != first
    assert pair.run_row(second)["trigger_body"] == {"x": "something"}


def refunding(lab: Lab) -> None:
    """The flow `child` makes up for the failure of its step: it is not retried without `force`."""
    lab.flow({"a": call(), "refund": call(run_after={"a": ["failed"]}), "b": after("a")}, name="child")


def test_what_a_run_refuses_refuses_the_retry_or_fails_the_step_that_is_opened_later(pair: Lab) -> None:
    """A worker's transaction has nobody to refuse: the step fails, and nothing is done twice."""
    refunding(pair)
    run_id = run_of(pair, 2, output=None, concurrency=1)
    called: dict[str, UUID] = {}
    for n in (0, 1):
        called = children(pair, run_id)
        pair.do_fail(called[f"each.{n}.ship"], "a")
        pair.do(called[f"each.{n}.ship"], "refund")
        pair.execute("UPDATE flow_runs SET failures = 1 WHERE id = %s", called[f"each.{n}.ship"])
        pair.execute("UPDATE flow_runs SET status = 'failed' WHERE id = %s", called[f"each.{n}.ship"])
        tell(pair)
    pair.execute("DELETE FROM test_moves")
    assert pair.status(run_id) is RunStatus.FAILED
    with pytest.raises(Conflict, match=f"Run {called['each.0.ship']} cannot be retried"):
        retry_step.retry(pair.ledger, run_id, None, by="ada")
    assert pair.status(run_id) is RunStatus.FAILED
    retry_step.retry(pair.ledger, run_id, None, by="ada", force=True)
    pair.do(called["each.0.ship"], "a", "b")
    tell(pair)
    assert items(pair, run_id) == ["succeeded", "failed"]
    assert f"Run {called['each.1.ship']} cannot be retried" in pair.step(run_id, "each.1.ship")["reason"]
    assert pair.status(run_id) is RunStatus.FAILED
    assert made(pair, run_id) == 2
    pair.execute("UPDATE flow_runs SET failures = 0 WHERE parent_run_id IS NOT NULL")


def test_a_cancelled_run_goes_on_with_the_runs_of_its_items(pair: Lab) -> None:
    run_id = run_of(pair, 3, concurrency=2)
    called = children(pair, run_id)
    pair.do(called["each.0.ship"], "a", output="done")
    stopping.cancel(pair.ledger, run_id, by="ada", reason="enough", grace=GRACE)
    tell(pair)
    assert pair.status(run_id) is RunStatus.CANCELLED
    retry_step.retry(pair.ledger, run_id, None, by="ada")
    assert children(pair, run_id).items() >= called.items()
    for _ in range(3):
        for child in children(pair, run_id).values():
            if pair.ready(child):
                pair.do(child, "a")
        tell(pair)
    assert made(pair, run_id) == 3
    assert output(pair, run_id)[0] == "done"
    pair.do(run_id, "join")


def test_a_rerun_from_behind_a_loop_keeps_it_whole(pair: Lab) -> None:
    run_id = run_of(pair, 2)
    for child in children(pair, run_id).values():
        pair.do(child, "a", output=1)
    tell(pair)
    pair.do_fail(run_id, "join")
    again = rerun.start(pair.ledger, rerun.Again(run_id, step="join"), by="ada").run_id
    assert pair.ready(again) == ["join"]
    assert made(pair, again) == 0


# ---- said ----


def test_explain_goes_down_to_what_an_item_waits_for(pair: Lab) -> None:
    run_id = run_of(pair)
    child = children(pair, run_id)["each.0.ship"]
    said = explain.explain(pair.ledger, run_id).sentence
    assert f"Step each.0.ship is done by run {child} of child. Step a has been ready" in said
    assert "2 more steps are running" in said
    said = explain.explain(pair.ledger, run_id, "each").sentence
    assert said.startswith("Loop each has 0 of 3 items done, 0 failed. Item each.0 has 0 of 1 steps done. Step each.0.")
    pair.do_fail(child, "a")
    tell(pair)
    said = explain.explain(pair.ledger, child).sentence
    assert f"orchestrator run retry {run_id}/each.0.ship" in said


# ---- death ----


@pytest.mark.parametrize("point", ["call.accepted", "call.adopted"])
def test_death_at_any_point_loses_nothing_and_does_nothing_twice(pair: Lab, point: str) -> None:
    def die() -> None:
        faults.disarm()
        raise Boom

    run_id, called = fail_some(pair, concurrency=1)
    retry_step.retry(pair.ledger, run_id, None, by="ada")
    pair.do(called["each.0.ship"], "a")
    faults.arm(point, die)
    if point == "call.adopted":
        with pytest.raises(Boom):
            report.tell(pair.ledger, called["each.0.ship"])
    tell(pair)
    pair.do(called["each.2.ship"], "a")
    assert tell(pair) == ["join"]
    assert made(pair, run_id) == 3
    faults.arm(point, die)
    if point == "call.accepted":
        with pytest.raises(Boom):
            run_of(pair, 2)
    assert made(pair, run_id) == 3


# ---- settled by hand ----

SEALED = {"ship": {**SHIP, "retry": retry(2, 60.0)}, "seal": call(inputs={"x": "@steps('ship').output"})}


def settled(lab: Lab, run_id: UUID, key: str, given: str | None) -> list[str]:
    found = settle_step.settle(lab.ledger, Settle(run_id, key, "ann", "by hand", given))
    lab.audit()
    return keys(found)


@pytest.mark.parametrize("given", [None, '"by hand"'], ids=["skip", "mark"])
def test_a_call_whose_run_is_open_is_not_settled(pair: Lab, given: str | None) -> None:
    """Nobody would hear of that run; it is settled itself, or stopped."""
    run_id = run_of(pair, 1, SEALED)
    with pytest.raises(Conflict, match=r"it is under way\. Fix: settle what it waits for"):
        settled(pair, run_id, "each.0.ship", given)
    child = children(pair, run_id)["each.0.ship"]
    assert settled(pair, child, "a", given) == []
    assert tell(pair) == ["each.0.seal"]
    assert pair.inputs(pair.take(run_id, "each.0.seal")) == {"x": given and "by hand"}


@pytest.mark.parametrize("given", [None, '"by hand"'], ids=["skip", "mark"])
@pytest.mark.parametrize("ended", [False, True], ids=["back-off", "failed"])
def test_a_call_of_an_item_is_settled(pair: Lab, given: str | None, ended: bool) -> None:
    """In its back-off, or when it has failed its item: no run is called any more, and the item goes on, or ends."""
    run_id = run_of(pair, 2, SEALED, output="@steps('ship').output", concurrency=1)
    for _ in range(1 + ended):
        pair.do_fail(children(pair, run_id)["each.0.ship"], "a")
        tell(pair)
        pair.execute("UPDATE flow_steps SET wake_at = flow_now() WHERE status = 'waiting' AND %s", ended)
        wake(pair.ledger)
    assert pair.statuses(run_id)["each.0.ship"] == ("failed" if ended else "waiting")
    if ended:
        assert items(pair, run_id) == ["failed", "running"]
    before = made(pair, run_id)
    ready = settled(pair, run_id, "each.0.ship", given)
    if ended:  # its item waits for its place
        assert items(pair, run_id) == ["blocked", "running"]
        pair.do(children(pair, run_id)["each.1.ship"], "a", output=1)
        tell(pair)
        pair.do(run_id, "each.1.seal")
        assert pair.ready(run_id) == (["each.0.seal"] if given else ["join"])
    else:
        assert ready == (["each.0.seal"] if given else ["a"])
    if given:
        pair.do(run_id, "each.0.seal")
    assert pair.statuses(run_id)["each.0"] == ("succeeded" if given else "skipped")
    if not ended:
        pair.do(children(pair, run_id)["each.1.ship"], "a", output=1)
        tell(pair)
        pair.do(run_id, "each.1.seal")
    assert made(pair, run_id) == before + (not ended)
    assert output(pair, run_id) == [given and "by hand", 1]
    pair.do(run_id, "join")
    assert pair.status(run_id) is RunStatus.SUCCEEDED
