"""An operator settles steps that run for items of loops."""

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import Dispatch
from orchestrator.core.settling import Settle
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import cancel_run
from orchestrator.engine.steps import retry_step, settle_step
from orchestrator.errors import Conflict, OutputInvalid, StepNotFound
from orchestrator.ledger import reads
from tests.engine.test_items import INNER, output, run_of
from tests.support.factories import Lab, after, call, keys, loop, retry

EITHER = ["succeeded", "skipped"]
CHAIN = {"pick": call(), "pack": call(run_after={"pick": EITHER}), "ship": after("pack")}


def settle(lab: Lab, run_id: UUID, key: str, output: str | None = None) -> tuple[Dispatch, ...]:
    found = settle_step.settle(lab.ledger, Settle(run_id, key, "ann", "by hand", output))
    lab.audit()
    return found


skip = settle
mark = functools.partial(settle, output='"by hand"')
BOTH: Any = pytest.mark.parametrize("act", [skip, mark], ids=["skip", "mark"])
Act = Callable[..., tuple[Dispatch, ...]]


def begun(lab: Lab, steps: dict[str, Any], count: int = 2, **fields: Any) -> UUID:
    run_id = run_of(lab, count, steps, **fields)
    lab.do(run_id, "bill")
    return run_id


# ---- while the item is under way ----


@BOTH
def test_a_step_that_is_ready(lab: Lab, act: Act) -> None:
    """The item goes on behind it."""
    run_id = begun(lab, CHAIN, output="@steps('pick').output")
    assert keys(act(lab, run_id, "each.0.pick")) == ["each.0.pack"]
    lab.drain(run_id)
    assert output(lab, run_id) == [None if act is skip else "by hand", "each.1.pick"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@BOTH
def test_a_step_in_its_back_off_is_the_last_and_lets_the_next_item_in(lab: Lab, act: Act) -> None:
    steps = {"pick": call(), "pack": after("pick", retry=retry(3))}
    run_id = begun(lab, steps, concurrency=1, output="@steps('pack').output")
    lab.do(run_id, "each.0.pick")
    lab.fail(lab.take(run_id, "each.0.pack"))
    assert lab.statuses(run_id)["each.0.pack"] == "waiting"
    assert keys(act(lab, run_id, "each.0.pack")) == ["each.1.pick"]
    assert lab.statuses(run_id)["each.0"] == "succeeded"
    lab.drain(run_id)
    assert output(lab, run_id) == [None if act is skip else "by hand", "each.1.pack"]


def test_an_item_of_which_every_step_is_skipped_is_skipped(lab: Lab) -> None:
    run_id = begun(lab, {"a": call(), "b": after("a")}, 1)
    assert keys(skip(lab, run_id, "each.0.a")) == ["join"]
    assert lab.statuses(run_id)["each.0"] == "skipped"
    assert output(lab, run_id) == [None]


@BOTH
def test_a_step_that_waits_for_others(lab: Lab, act: Act) -> None:
    """What is before it counts for the end of the item now."""
    run_id = begun(lab, CHAIN, 1, output="@steps('pick').output")
    act(lab, run_id, "each.0.ship")
    lab.do(run_id, "each.0.pick")
    assert lab.statuses(run_id)["each.0"] == "running"
    lab.audit()
    assert lab.drain(run_id) == ["each.0.pack", "join"]
    assert output(lab, run_id) == ["each.0.pick"]


@BOTH
def test_a_step_that_failed_while_others_run(lab: Lab, act: Act) -> None:
    run_id = begun(lab, {"a": call(), "b": call(), "c": call(run_after={"a": EITHER})}, 1)
    lab.do_fail(run_id, "each.0.a")
    assert keys(act(lab, run_id, "each.0.a")) == ["each.0.c"]
    lab.drain(run_id)
    assert lab.statuses(run_id)["each.0.c"] == "succeeded"
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_steps_of_loops_inside_of_items(lab: Lab) -> None:
    run_id = begun(lab, INNER, 1, output="@steps('check').output")
    lab.do(run_id, "each.0.parts", output=["p", "q"])
    assert keys(mark(lab, run_id, "each.0.inner.1.cut")) == ["each.0.inner.1.glue"]
    lab.do_fail(run_id, "each.0.inner.1.glue")
    assert keys(mark(lab, run_id, "each.0.inner.1.glue")) == []
    lab.drain(run_id)
    assert output(lab, run_id, "each.0.inner") == ["each.0.inner.0.glue", "by hand"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def again(lab: Lab, run_id: UUID, key: str) -> object:
    return retry_step.retry(lab.ledger, run_id, key, by="ann")


@pytest.mark.parametrize("act", [mark, again])
def test_a_step_of_a_loop_that_was_left_out(lab: Lab, act: Callable[[Lab, UUID, str], object]) -> None:
    """Whoever says what came of the step, or wants it again, opens the loop around it, which had failed, and which
    somebody had skipped then."""
    run_id = begun(lab, {**INNER, "beside": call()}, 1, output="@steps('check').output")
    lab.do(run_id, "each.0.parts", output=["p", "q"])
    lab.do_fail(run_id, "each.0.inner.1.cut")
    lab.do(run_id, "each.0.inner.0.cut", "each.0.inner.0.glue")
    assert lab.statuses(run_id)["each.0.inner"] == "failed"
    skip(lab, run_id, "each.0.inner")
    assert (lab.statuses(run_id)["each.0"], lab.statuses(run_id)["each.0.inner"]) == ("running", "skipped")
    act(lab, run_id, "each.0.inner.1.cut")
    lab.audit()
    assert lab.statuses(run_id)["each.0.inner"] == "running"
    lab.drain(run_id)
    assert output(lab, run_id, "each.0.inner") == ["each.0.inner.0.glue", "each.0.inner.1.glue"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


# ---- when the item is over ----


@BOTH
@pytest.mark.parametrize("open_", [True, False], ids=["running", "ended"])
@pytest.mark.parametrize("window", [None, 1])
def test_a_step_that_failed_its_item(lab: Lab, act: Act, open_: bool, window: int | None) -> None:
    """Behind it its item goes on, when it has a place again."""
    run_id = begun(lab, CHAIN, 3, output="@steps('pick').output", **({} if window is None else {"concurrency": window}))
    lab.do_fail(run_id, "each.0.pick")
    assert lab.statuses(run_id)["each.0"] == "failed"
    if not open_:
        lab.drain(run_id)
        assert lab.status(run_id) is RunStatus.FAILED
    assert keys(act(lab, run_id, "each.0.pick")) == ([] if open_ and window else ["each.0.pack"])
    lab.drain(run_id)
    assert lab.statuses(run_id)["each.0.ship"] == "succeeded"
    assert output(lab, run_id) == [None if act is skip else "by hand", "each.1.pick", "each.2.pick"]
    row = reads.runs.get(lab.ledger, run_id)
    assert (row.status, row.error) == (RunStatus.SUCCEEDED, None)


@BOTH
@pytest.mark.parametrize("open_", [True, False], ids=["running", "ended"])
def test_the_last_step_of_its_item(lab: Lab, act: Act, open_: bool) -> None:
    """The item ends, and its loop with it."""
    run_id = begun(lab, {"pick": call(), "pack": after("pick")}, 2, output="@steps('pack').output")
    lab.do(run_id, "each.0.pick")
    lab.do_fail(run_id, "each.0.pack")
    if not open_:
        lab.drain(run_id)
    assert keys(act(lab, run_id, "each.0.pack")) == ([] if open_ else ["join"])
    assert lab.statuses(run_id)["each.0"] == "succeeded"
    lab.drain(run_id)
    assert output(lab, run_id) == [None if act is skip else "by hand", "each.1.pack"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_what_asked_for_the_failure_is_skipped_again(lab: Lab) -> None:
    steps = {"a": call(), "b": after("a"), "c": after("b"), "rescue": call(run_after={"c": ["failed"]})}
    run_id = begun(lab, steps, 1)
    lab.do_fail(run_id, "each.0.a")
    assert keys(mark(lab, run_id, "each.0.a")) == ["each.0.b"]
    lab.drain(run_id)
    assert lab.statuses(run_id)["each.0.rescue"] == "skipped"
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_another_failure_of_the_item_stays(lab: Lab) -> None:
    run_id = begun(lab, {"a": call(), "b": call()}, 1)
    lab.do_fail(run_id, "each.0.a")
    lab.do_fail(run_id, "each.0.b")
    mark(lab, run_id, "each.0.a")
    assert lab.step(run_id, "each.0")["reason"] == "b failed: boom"
    assert lab.status(run_id) is RunStatus.FAILED
    mark(lab, run_id, "each.0.b")
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_another_failed_item_stays(lab: Lab) -> None:
    run_id = begun(lab, {"a": call(), "b": after("a")}, 2)
    lab.do_fail(run_id, "each.0.a")
    lab.do_fail(run_id, "each.1.a")
    mark(lab, run_id, "each.0.a")
    lab.drain(run_id)
    assert lab.step(run_id, "each")["reason"].startswith("1 of its items failed; the first, each.1: a failed")
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@BOTH
def test_a_loop_that_stopped_lets_the_others_in(lab: Lab, act: Act) -> None:
    run_id = begun(lab, {"a": call(), "b": call(run_after={"a": EITHER})}, 3, concurrency=1, stop_on_failure=True)
    lab.do_fail(run_id, "each.0.a")
    assert lab.status(run_id) is RunStatus.FAILED
    assert keys(act(lab, run_id, "each.0.a")) == ["each.0.b"]
    assert lab.drain(run_id)[-1] == "join"
    assert lab.statuses(run_id)["each.2.b"] == "succeeded"


def test_a_step_deep_inside(lab: Lab) -> None:
    """Everything around it had failed."""
    run_id = begun(lab, INNER, 2, output="@steps('check').output")
    while ready := lab.ready(run_id):
        if ready[0] == "each.1.inner.1.cut":
            lab.do_fail(run_id, ready[0])
        else:
            lab.do(run_id, ready[0], output=["p", "q"] if ready[0].endswith("parts") else ready[0])
    assert keys(mark(lab, run_id, "each.1.inner.1.cut")) == ["each.1.inner.1.glue"]
    assert lab.drain(run_id) == ["each.1.inner.1.glue", "each.1.check", "join"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_step_of_a_cancelled_run(lab: Lab) -> None:
    run_id = begun(lab, CHAIN, 2, concurrency=1, output="@steps('pick').output")
    cancel_run.cancel(lab.ledger, run_id, by="op", reason="no", grace=timedelta(seconds=1))
    mark(lab, run_id, "each.0.pick")
    lab.drain(run_id)
    assert lab.statuses(run_id)["each.0.ship"] == "succeeded"


# ---- items of one step ----


@BOTH
@pytest.mark.parametrize("open_", [True, False], ids=["running", "ended"])
def test_the_only_step_of_an_item(lab: Lab, act: Act, open_: bool) -> None:
    run_id = lab.run({"each": loop([1, 2]), "sum": after("each")})
    lab.do_fail(run_id, "each.0.do")
    if not open_:
        lab.do(run_id, "each.1.do")
    assert keys(act(lab, run_id, "each.0.do")) == ([] if open_ else ["sum"])
    lab.drain(run_id)
    assert output(lab, run_id) == [None if act is skip else "by hand", "each.1.do"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_of_two_failed_items_of_one_step_the_other_stays(lab: Lab) -> None:
    run_id = lab.run({"each": loop([1, 2, 3]), "sum": after("each")})
    for n in range(3):
        lab.do_fail(run_id, f"each.{n}.do")
    skip(lab, run_id, "each.0.do")
    skip(lab, run_id, "each.2.do")
    assert lab.step(run_id, "each")["reason"] == "1 of its items failed; the first, each.1.do: boom"
    assert keys(mark(lab, run_id, "each.1.do")) == ["sum"]
    assert lab.drain(run_id) == ["sum"]
    assert output(lab, run_id) == [None, "by hand", None]


# ---- what is refused ----


@BOTH
def test_what_is_refused(lab: Lab, act: Act) -> None:
    run_id = begun(lab, {"a": call(), "undo": call(run_after={"a": ["failed"]}), "b": call()}, 3, concurrency=2)
    lease = lab.take(run_id, "each.0.a")
    before = lab.snapshot()
    with pytest.raises(Conflict, match=r"it is an item of the loop each. Fix: settle a step of it, or each"):
        act(lab, run_id, "each.0")
    with pytest.raises(Conflict, match="a worker has it"):
        act(lab, run_id, "each.0.a")
    with pytest.raises(Conflict, match="its item waits for a place in the loop each"):
        act(lab, run_id, "each.2.a")
    for key in ("each.0.nothing", "each.9.a", "each.0.a.b"):
        with pytest.raises(StepNotFound):
            act(lab, run_id, key)
    assert lab.snapshot() == before
    lab.fail(lease, retryable=False)
    lab.do(run_id, "each.0.undo", "each.0.b")
    with pytest.raises(Conflict, match=r"each\.0 succeeded, and what became of the step is in its output"):
        act(lab, run_id, "each.0.a")
    lab.do_fail(run_id, "each.1.a")
    lab.do(run_id, "each.1.undo")
    with pytest.raises(Conflict, match=r"each\.1\.undo makes up for its failure"):
        act(lab, run_id, "each.1.a")


def test_an_output_must_fit(lab: Lab) -> None:
    run_id = begun(lab, {"a": call(), "in": {"for_each": [1], "steps": {"do": call()}, "run_after": {"a": EITHER}}}, 1)
    with pytest.raises(OutputInvalid, match="is not a list"):
        mark(lab, run_id, "each.0.in")
    settle(lab, run_id, "each.0.in", "[1]")
    lab.drain(run_id)
    assert output(lab, run_id, "each.0.in") == [1]
