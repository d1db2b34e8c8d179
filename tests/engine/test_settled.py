"""An operator skips a step, or marks it as done."""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.core.facts import Dispatch
from orchestrator.core.settling import Settle
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run, explain
from orchestrator.engine.signals import approvals
from orchestrator.engine.steps import retry_step, settle_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict, OutputInvalid, RunNotFound, StepNotFound
from orchestrator.ledger import reads
from tests.support.eventually import eventually
from tests.support.factories import Lab, after, call, keys, loop, retry

GRACE = timedelta(seconds=10)


def settle(lab: Lab, run_id: UUID, key: str, output: str | None = None) -> tuple[Dispatch, ...]:
    return settle_step.settle(lab.ledger, Settle(run_id, key, "ann", "by hand", output))


skip = settle
mark = functools.partial(settle, output='{"by": "hand"}')
BOTH: list[Callable[..., Any]] = [skip, mark]
NAMES = ["skip", "mark"]


# ---- steps of an open run ----


def test_a_step_that_is_ready_is_skipped(lab: Lab) -> None:
    """What asks for its success is skipped too; its message finds nothing to do."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": call(run_after={"a": ["skipped", "succeeded"]})})
    number = lab.number(run_id, "a")
    assert keys(skip(lab, run_id, "a")) == ["c"]
    assert lab.try_take(run_id, "a") is None
    assert lab.statuses(run_id) == {"a": "skipped", "b": "skipped", "c": "ready"}
    step = lab.step(run_id, "a")
    assert (step["reason"], step["queued"], step["dispatch_no"]) == ("skipped by ann: by hand", False, number)
    (event,) = [one for one in reads.events.of_run(lab.ledger, run_id) if one.step_key == "a" and "skip" in one.type]
    assert (event.type, event.facts) == ("step.skipped", {"by": "ann", "reason": "by hand"})
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_step_that_is_ready_is_marked_as_done(lab: Lab) -> None:
    """What comes after it gets the output."""
    run_id = lab.run({"a": call(), "b": call(inputs={"x": "@steps('a').output.by"})})
    assert keys(mark(lab, run_id, "a")) == ["b"]
    step = lab.step(run_id, "a")
    assert (step["status"], step["attempts"], step["reason"]) == ("succeeded", 0, "marked as done by ann: by hand")
    assert lab.inputs(lab.take(run_id, "b")) == {"x": "hand"}
    events = reads.events.of_run(lab.ledger, run_id)
    assert [one.facts for one in events if one.type == "step.marked"] == [{"by": "ann", "reason": "by hand"}]
    assert explain.explain(lab.ledger, run_id, "a").sentence == (
        "Step a has succeeded: marked as done by ann: by hand."
    )


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_the_only_step_ends_the_run(lab: Lab, act: Callable[..., Any]) -> None:
    run_id = lab.run({"a": call()})
    assert act(lab, run_id, "a") == ()
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_a_step_in_its_back_off(lab: Lab, act: Callable[..., Any]) -> None:
    run_id = lab.run({"a": call(retry=retry(3)), "b": call(run_after={"a": ["skipped", "succeeded"]})})
    lab.fail(lab.take(run_id, "a"))
    assert lab.statuses(run_id)["a"] == "waiting"
    assert keys(act(lab, run_id, "a")) == ["b"]
    lab.forward(60)
    sweep.due(lab.ledger)
    assert lab.statuses(run_id)["a"] in {"skipped", "succeeded"}


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
@pytest.mark.parametrize("others", [{}, {"late": after("a")}, {"late": after("b")}], ids=["sink", "also", "behind"])
def test_a_step_that_still_waits_for_others(lab: Lab, act: Callable[..., Any], others: dict[str, Any]) -> None:
    """What is before it has nobody waiting any more, or others: the run ends when all have ended, not sooner."""
    run_id = lab.run({"a": call(), "b": after("a"), "x": call(), **others})
    act(lab, run_id, "b")
    lab.audit()
    lab.do(run_id, "x")
    assert lab.status(run_id) is RunStatus.RUNNING
    lab.audit()
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert "a" in {key for key, status in lab.statuses(run_id).items() if status == "succeeded"}


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_a_step_between_others_that_still_waits(lab: Lab, act: Callable[..., Any]) -> None:
    run_id = lab.run({"a": call(), "b": after("a"), "c": call(run_after={"b": ["skipped", "succeeded"]})})
    assert keys(act(lab, run_id, "b")) == ["c"]
    lab.audit()
    lab.do(run_id, "c")
    assert lab.status(run_id) is RunStatus.RUNNING
    lab.do(run_id, "a")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_failure_counts_when_what_asked_for_it_is_skipped_by_hand(lab: Lab) -> None:
    """The rescue was on its way: without it the run fails, and says why."""
    run_id = lab.run({"a": call(), "rescue": call(run_after={"a": ["failed"]}), "x": call()})
    lab.do_fail(run_id, "a")
    skip(lab, run_id, "rescue")
    lab.audit()
    lab.do(run_id, "x")
    row = reads.runs.get(lab.ledger, run_id)
    assert (row.status, (row.error or {})["step"]) == (RunStatus.FAILED, "a")


def test_a_failure_is_handled_when_what_asked_for_it_is_marked_as_done(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "rescue": call(run_after={"a": ["failed"]})})
    lab.do_fail(run_id, "a")
    mark(lab, run_id, "rescue")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


# ---- waits ----

PAYMENT = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
PAID = {"paid": {"signal": {"name": "paid", "timeout": "P1D", "schema": PAYMENT}}, "ship": after("paid")}


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
@pytest.mark.parametrize(
    "asked",
    [{"signal": {"name": "paid"}}, {"approval": {"title": "Ship it?", "to": "store"}}],
    ids=["signal", "approval"],
)
def test_a_wait_that_is_settled_is_closed(lab: Lab, act: Callable[..., Any], asked: dict[str, Any]) -> None:
    """Nobody is asked any more, and the inbox does not have it."""
    run_id = lab.run({"paid": asked, "b": call()})
    assert lab.statuses(run_id)["paid"] == "waiting"
    act(lab, run_id, "paid")
    (wait,) = lab.rows("SELECT * FROM flow_signal_waiters")
    assert wait["closed_at"] >= lab.step(run_id, "paid")["ended_at"]
    assert (wait["signal_id"], wait["delivered_at"]) == (None, None)
    assert approvals.open_(lab.ledger, None, None, 10) == []


def test_a_wait_for_a_signal_is_marked_as_done(lab: Lab) -> None:
    """With what the signal would have brought; a signal that comes later finds nobody waiting."""
    run_id = lab.run(PAID)
    assert lab.statuses(run_id)["paid"] == "waiting"
    before = lab.snapshot()
    with pytest.raises(OutputInvalid, match="is not what signal paid may be"):
        settle(lab, run_id, "paid", '{"amount": "much"}')
    assert lab.snapshot() == before
    assert keys(settle(lab, run_id, "paid", '{"amount": 5}')) == ["ship"]
    assert lab.rows("SELECT 1 FROM flow_signal_waiters WHERE closed_at IS NULL") == []
    lab.forward(timedelta(days=2))
    lab.audit()
    lab.drain(run_id)
    assert reads.steps.output(lab.ledger, run_id, "paid") == {"amount": 5}
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("steps", "output", "wrong"),
    [
        ({"a": call(), "b": after("a")}, "@steps('b').output", True),
        ({"each": loop([1, 2]), "b": after("each")}, "@steps('b').output", True),
        ({"a": call(), "b": after("a")}, "@steps('b').output.amount", False),
        ({"a": call(), "b": after("a")}, "@steps('b').output ?? null", False),
        ({"a": call(), "b": after("a")}, {"b": "@steps('b').output"}, False),
        ({"a": call(), "b": after("a")}, "@steps('a').output", False),
    ],
)
def test_the_step_that_gives_the_result_is_marked_with_one(lab: Lab, steps: Any, output: Any, wrong: bool) -> None:
    """Of other steps the manifest says nothing."""
    lab.flow(steps, output=output, output_schema=PAYMENT)
    run_id = lab.start()
    before = lab.snapshot()
    with pytest.raises(OutputInvalid, match="is not what the flow returns, which is") if wrong else nullcontext():
        settle(lab, run_id, "b", '{"amount": "much"}')
    assert (lab.snapshot() == before) is wrong
    if wrong:
        settle(lab, run_id, "b", '{"amount": 5}')
        lab.drain(run_id)
        assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_schema_of_the_result_that_is_none_refuses_nothing(lab: Lab) -> None:
    """Nobody reads it at registration."""
    run_id = lab.run({"a": call()}, output="@steps('a').output", output_schema={"type": "nothing like it"})
    settle(lab, run_id, "a", "1")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_sleep_is_skipped(lab: Lab) -> None:
    run_id = lab.run({"night": {"sleep": "P1D"}, "day": call(run_after={"night": ["succeeded", "skipped"]})})
    assert keys(skip(lab, run_id, "night")) == ["day"]
    assert lab.step(run_id, "night")["wake_at"] is None


# ---- loops ----


@pytest.mark.parametrize("window", [None, 1])
def test_an_item_of_a_loop_is_marked_as_done(lab: Lab, window: int | None) -> None:
    """Its result is in the list, and the next item is let in."""
    run_id = lab.run({"each": loop([1, 2, 3], concurrency=window), "sum": call(inputs={"x": "@steps('each').output"})})
    assert keys(settle(lab, run_id, "each.0.do", '"mine"')) == ([] if window is None else ["each.1.do"])
    assert "sum" in lab.drain(run_id)
    assert reads.steps.output(lab.ledger, run_id, "each") == ["mine", "each.1.do", "each.2.do"]


def test_the_last_item_that_is_marked_closes_its_loop(lab: Lab) -> None:
    run_id = lab.run({"each": loop([1, 2]), "sum": after("each")})
    lab.do(run_id, "each.0.do")
    assert keys(mark(lab, run_id, "each.1.do")) == ["sum"]


def test_a_loop_that_has_not_begun_is_marked_with_a_list(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "each": loop("@steps('a').output"), "sum": after("each")})
    with pytest.raises(OutputInvalid, match="is not a list"):
        settle(lab, run_id, "each", "{}")
    assert keys(settle(lab, run_id, "each", "[1]")) == ["sum"]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert reads.steps.output(lab.ledger, run_id, "each") == [1]


# ---- steps of a run that ended ----


def test_a_step_that_failed_is_marked_as_done_and_the_run_goes_on(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": call(inputs={"x": "@steps('a').output.by"}), "c": after("b")})
    lab.do_fail(run_id, "a")
    assert lab.status(run_id) is RunStatus.FAILED
    assert keys(mark(lab, run_id, "a")) == ["b"]
    lab.audit()
    assert lab.drain(run_id) == ["b", "c"]
    row = reads.runs.get(lab.ledger, run_id)
    assert (row.status, row.error, row.epoch) == (RunStatus.SUCCEEDED, None, 2)
    assert "run.retried" in lab.events(run_id)


def test_a_step_that_failed_is_skipped_and_the_run_ends_without_it(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": after("a"), "c": call(run_after={"b": ["skipped", "succeeded"]})})
    lab.do_fail(run_id, "a")
    assert lab.drain(run_id) == ["c"]
    assert lab.status(run_id) is RunStatus.FAILED
    assert skip(lab, run_id, "a") == ()
    assert lab.statuses(run_id) == {"a": "skipped", "b": "skipped", "c": "succeeded"}
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    assert lab.step(run_id, "a")["reason"] == "skipped by ann: by hand"


def test_of_two_failures_the_other_one_stays(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": call()})
    lab.do_fail(run_id, "a")
    lab.do_fail(run_id, "b")
    mark(lab, run_id, "a")
    row = reads.runs.get(lab.ledger, run_id)
    assert (row.status, (row.error or {})["step"]) == (RunStatus.FAILED, "b")
    mark(lab, run_id, "b")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_step_of_a_cancelled_run_is_marked_as_done(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": after("a")})
    cancel_run.cancel(lab.ledger, run_id, by="op", reason="no", grace=GRACE)
    assert keys(mark(lab, run_id, "a")) == ["b"]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("between", [False, True])
def test_a_race_of_a_cancelled_run_goes_on(lab: Lab, between: bool) -> None:
    """It was won before, by another step than the one that is marked: its run ends when it has ended, and not sooner
    nor later."""
    race = call(run_after={"a": ["succeeded"], "m" if between else "k": ["succeeded"]}, join="any")
    middle = {"m": call(run_after={"k": ["succeeded", "skipped"]})} if between else {}
    run_id = lab.run({"a": call(), "k": call(), **middle, "race": race})
    lab.do(run_id, "a")
    assert lab.statuses(run_id)["race"] == "ready"
    cancel_run.cancel(lab.ledger, run_id, by="op", reason="no", grace=GRACE)
    mark(lab, run_id, "k")
    lab.audit()
    assert "race" in lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_skipped_step_is_marked_as_done(lab: Lab) -> None:
    """Of a run that failed: what is after it goes on."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": after("b")})
    lab.do_fail(run_id, "a")
    assert keys(mark(lab, run_id, "b")) == ["c"]
    lab.drain(run_id)
    assert lab.statuses(run_id) == {"a": "failed", "b": "succeeded", "c": "succeeded"}
    assert lab.status(run_id) is RunStatus.FAILED


def test_a_loop_that_failed_is_marked_as_done(lab: Lab) -> None:
    """Its items stay as they are."""
    run_id = lab.run({"each": loop([1, 2]), "sum": call(inputs={"x": "@steps('each').output"})})
    lab.do(run_id, "each.0.do")
    lab.do_fail(run_id, "each.1.do")
    assert keys(settle(lab, run_id, "each", "[1, 2]")) == ["sum"]
    assert lab.inputs(lab.take(run_id, "sum")) == {"x": [1, 2]}
    assert lab.statuses(run_id)["each.1.do"] == "failed"


def test_a_failure_whose_refund_was_paid_is_not_settled(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "refund": call(run_after={"a": ["failed"]}), "x": call()})
    lab.do_fail(run_id, "a")
    lab.do(run_id, "refund")
    lab.do_fail(run_id, "x")
    with pytest.raises(Conflict, match="step refund makes up for its failure"):
        mark(lab, run_id, "a")


def test_it_is_retried_afterwards(lab: Lab) -> None:
    run_id = lab.run({"a": call(), "b": after("a")})
    mark(lab, run_id, "a")
    lab.do_fail(run_id, "b")
    retry_step.retry(lab.ledger, run_id, None, by="ann")
    assert lab.drain(run_id) == ["b"]


# ---- what is refused ----


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_what_is_refused(lab: Lab, act: Callable[..., Any]) -> None:
    run_id = lab.run({"a": call(), "b": call(), "each": loop([1, 2], concurrency=1)})
    before = lab.snapshot()
    with pytest.raises(RunNotFound):
        act(lab, uuid4(), "a")
    for key in ("aa", "a.0.b", "each.9.do"):
        with pytest.raises(StepNotFound, match="no step"):
            act(lab, run_id, key)
    with pytest.raises(Conflict, match="it is under way"):
        act(lab, run_id, "each")
    with pytest.raises(Conflict, match="its item waits for a place in the loop each"):
        act(lab, run_id, "each.1.do")
    assert lab.snapshot() == before
    lease = lab.take(run_id, "a")
    with pytest.raises(Conflict, match=r"a worker has it. Fix: wait for it, or first `orchestrator run cancel"):
        act(lab, run_id, "a")
    lab.done(lease)
    with pytest.raises(Conflict, match="it is succeeded"):
        act(lab, run_id, "a")
    lab.take(run_id, "b")
    cancel_run.cancel(lab.ledger, run_id, by="op", reason="no", grace=GRACE)
    with pytest.raises(Conflict, match="being stopped"):
        act(lab, run_id, "each.0.do")


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_a_run_that_has_not_begun_is_left_alone(lab: Lab, act: Callable[..., Any]) -> None:
    """What is behind the step would begin before its time."""
    lab.flow({"a": call(), "b": after("a")})
    run_id = lab.start(begins=timedelta(hours=1))
    for key in ("a", "b"):
        with pytest.raises(Conflict, match="its run begins later"):
            act(lab, run_id, key)


@pytest.mark.parametrize("output", ['{"x": "\\u0000"}', "nonsense", '{"x": NaN}'])
def test_an_output_that_cannot_be_stored_is_refused(lab: Lab, output: str) -> None:
    run_id = lab.run({"a": call()})
    before = lab.snapshot()
    with pytest.raises(Exception, match="Fix:"):
        settle(lab, run_id, "a", output)
    assert lab.snapshot() == before


# ---- two at once ----


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_of_a_claim_and_an_operator_one_has_the_step(lab: Lab, act: Callable[..., Any]) -> None:
    lab.flow({"a": call(), "b": call(run_after={"a": ["skipped", "succeeded"]})})
    for _ in range(20):
        run_id = lab.start()
        taken, settled = lab.race(lambda r=run_id: lab.try_take(r, "a"), lambda r=run_id: act(lab, r, "a"))
        if taken is None:
            assert keys(settled) == ["b"]
        else:
            assert isinstance(settled, Conflict)
            lab.done(taken)
        lab.audit()
        lab.drain(run_id)
        assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_a_claim_under_way_is_waited_for(lab: Lab, act: Callable[..., Any]) -> None:
    run_id = lab.run({"a": call()})
    with lab.holding("SELECT 1 FROM flow_steps WHERE run_id = %s FOR UPDATE", run_id):
        claiming = lab.later(lambda: lab.take(run_id, "a"))
        eventually(lambda: lab.waiting_sessions() == 1)
        settling = lab.later(lambda: act(lab, run_id, "a"))
        eventually(lambda: lab.waiting_sessions() == 2)
    with pytest.raises(Conflict, match="a worker has it"):
        settling.result()
    lab.done(claiming.result())


@pytest.mark.parametrize("act", BOTH, ids=NAMES)
def test_nothing_is_claimed_after_an_operator_has_the_step(lab: Lab, act: Callable[..., Any]) -> None:
    run_id = lab.run({"a": call()})
    with lab.holding("SELECT 1 FROM flow_steps WHERE run_id = %s FOR UPDATE", run_id):
        settling = lab.later(lambda: act(lab, run_id, "a"))
        eventually(lambda: lab.waiting_sessions() == 1)
        claiming = lab.later(lambda: lab.try_take(run_id, "a"))
        eventually(lambda: lab.waiting_sessions() == 2)
    settling.result()
    assert claiming.result() is None


def test_of_two_operators_one_is_told_no(lab: Lab) -> None:
    lab.flow({"a": call(), "b": call(run_after={"a": ["skipped", "succeeded"]})})
    for _ in range(10):
        run_id = lab.start()
        done = lab.race(*(functools.partial(mark, lab, run_id, "a") for _ in range(2)))
        assert sorted(type(one).__name__ for one in done) == ["Conflict", "tuple"]
        assert lab.drain(run_id) == ["b"]
