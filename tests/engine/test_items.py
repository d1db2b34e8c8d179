"""Loops whose items run a graph each."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import Lease, NotReady, StepError
from orchestrator.core.states import RunStatus, StepKind
from orchestrator.engine.runs import cancel_run, explain
from orchestrator.engine.steps import polls, retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.engine.sweeps.wake import wake
from orchestrator.errors import Conflict, StepNotFound
from orchestrator.ledger import reads, rows
from tests.support.factories import Lab, after, call, retry

GRAPH = {
    "pick": call(inputs={"line": "@item()", "n": "@index()"}),
    "pack": call(inputs={"picked": "@steps('pick').output", "who": "@triggerBody().who"}),
    "ship": call(inputs={"packed": "@steps('pack').output", "bill": "@steps('bill').output", "line": "@item().id"}),
}


def graph(steps: dict[str, Any] | None = None, for_each: Any = "@triggerBody().lines", **fields: Any) -> dict[str, Any]:
    return {"for_each": for_each, "steps": GRAPH if steps is None else steps, **fields}


def run_of(lab: Lab, count: int = 2, steps: dict[str, Any] | None = None, **fields: Any) -> UUID:
    """`bill`, and a loop that reads it; then a step that takes the list."""
    fields = {"output": "@steps('ship').output", **fields} if steps is None else fields
    made = {"bill": call(), "each": graph(steps, **fields), "join": after("each")}
    body = {"who": "ada", "lines": [{"id": f"l{n}"} for n in range(count)]}
    return lab.run(made, body)


def output(lab: Lab, run_id: UUID, key: str = "each") -> Any:
    return reads.steps.output(lab.ledger, run_id, key)


def test_each_item_runs_its_graph(lab: Lab) -> None:
    run_id = run_of(lab)
    lab.do(run_id, "bill", output="b-1")
    assert lab.ready(run_id) == ["each.0.pick", "each.1.pick"]
    lease = lab.take(run_id, "each.1.pick")
    assert lab.inputs(lease) == {"line": {"id": "l1"}, "n": 1}
    lab.done(lease, "picked")
    assert lab.ready(run_id) == ["each.0.pick", "each.1.pack"]
    lease = lab.take(run_id, "each.1.pack")
    assert lab.inputs(lease) == {"picked": "picked", "who": "ada"}
    lab.done(lease, "packed")
    lease = lab.take(run_id, "each.1.ship")
    assert lab.inputs(lease) == {"packed": "packed", "bill": "b-1", "line": "l1"}
    lab.done(lease, "shipped")
    assert lab.statuses(run_id)["each.1"] == "succeeded"
    assert lab.statuses(run_id)["each.0"] == lab.statuses(run_id)["each"] == "running"
    lab.do(run_id, "each.0.pick", "each.0.pack", "each.0.ship")
    assert output(lab, run_id) == ["each.0.ship", "shipped"]
    assert lab.statuses(run_id)["each"] == "succeeded"
    lab.do(run_id, "join")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("concurrency", [None, 1, 2])
def test_items_go_through_the_window(lab: Lab, concurrency: int | None, chain: bool) -> None:
    window = {} if concurrency is None else {"concurrency": concurrency}
    run_id = run_of(lab, 5, **window)
    lab.do(run_id, "bill", output=1)
    items = [key for key, status in lab.statuses(run_id).items() if key.count(".") == 1 and status == "running"]
    assert len(items) == (concurrency or 5)
    lab.drain(run_id, chain=chain)
    assert output(lab, run_id) == [f"each.{n}.ship" for n in range(5)]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_the_last_step_of_an_item_is_followed_by_the_first_of_the_next(lab: Lab) -> None:
    run_id = run_of(lab, 3, concurrency=1)
    lab.do(run_id, "bill", output=1)
    lease = lab.take(run_id, "each.0.pick")
    order = []
    while lease is not None:
        order.append(lease.step_key)
        following = lab.done(lease, chain=True).next
        lease = following  # type: ignore[assignment]
    assert order == [f"each.{n}.{key}" for n in range(3) for key in GRAPH] + ["join"]


def test_an_item_fails_as_a_run_does(lab: Lab) -> None:
    run_id = run_of(lab, 3)
    lab.do(run_id, "bill", output=1)
    lab.do(run_id, "each.1.pick")
    lab.do_fail(run_id, "each.1.pack", error=StepError("Torn", "the box is torn"))
    assert {key: status for key, status in lab.statuses(run_id).items() if key.startswith("each.1")} == {
        "each.1": "failed",
        "each.1.pick": "succeeded",
        "each.1.pack": "failed",
        "each.1.ship": "skipped",
    }
    assert lab.step(run_id, "each.1")["reason"] == "pack failed: the box is torn"
    lab.drain(run_id)
    assert (
        lab.step(run_id, "each")["reason"] == "1 of its items failed; the first, each.1: pack failed: the box is torn"
    )
    assert lab.status(run_id) is RunStatus.FAILED


def test_a_handled_failure_is_not_one_of_the_item(lab: Lab) -> None:
    steps = {"a": call(), "b": call(run_after={"a": ["failed"]}), "c": after("a")}
    run_id = run_of(lab, 2, steps)
    lab.do(run_id, "bill")
    lab.do_fail(run_id, "each.0.a")
    lab.do(run_id, "each.1.a", "each.1.c", "each.0.b")
    assert lab.statuses(run_id)["each.0"] == lab.statuses(run_id)["each.1"] == "succeeded"
    assert output(lab, run_id) == [None, None]
    lab.do(run_id, "join")


def test_errors_of_items_are_collected(lab: Lab) -> None:
    run_id = run_of(lab, 2, errors="collect")
    lab.do(run_id, "bill", output=1)
    lab.do(run_id, "each.0.pick")
    lab.do_fail(run_id, "each.0.pack", error=StepError("Torn", "the box is torn"))
    lab.drain(run_id)
    first, second = output(lab, run_id)
    assert first["error"] == {"step": "each.0.pack", "type": "Torn", "message": "the box is torn"}
    assert (second["ok"], second["value"]) == (True, "each.1.ship")


def test_a_loop_stops_before_the_next_item(lab: Lab) -> None:
    run_id = run_of(lab, 4, concurrency=2, stop_on_failure=True)
    lab.do(run_id, "bill", output=1)
    lab.do_fail(run_id, "each.1.pick")
    assert [lab.statuses(run_id)[f"each.{n}"] for n in range(4)] == ["skipped", "failed", "skipped", "skipped"]
    assert lab.step(run_id, "each.0.pick")["reason"] == "the loop stopped: each.1 failed"
    assert lab.status(run_id) is RunStatus.FAILED


INNER = {
    "parts": call(inputs={"line": "@item()"}),
    "inner": {
        "for_each": "@steps('parts').output",
        "steps": {
            "cut": call(inputs={"part": "@item()", "line": "@item('each').id", "n": "@index('each')"}),
            "glue": call(inputs={"cut": "@steps('cut').output", "parts": "@steps('parts').output"}),
        },
        "output": "@steps('glue').output",
    },
    "check": call(inputs={"glued": "@steps('inner').output"}),
}


def test_loops_nest(lab: Lab) -> None:
    run_id = run_of(lab, 2, INNER, output={"checked": "@steps('check').output", "n": "@index()"})
    lab.do(run_id, "bill")
    lab.do(run_id, "each.1.parts", output=["p", "q"])
    lease = lab.take(run_id, "each.1.inner.1.cut")
    assert lab.inputs(lease) == {"part": "q", "line": "l1", "n": 1}
    lab.done(lease, "cut")
    assert lab.inputs(lab.take(run_id, "each.1.inner.1.glue")) == {"cut": "cut", "parts": ["p", "q"]}
    lab.do(run_id, "each.0.parts", output=[])
    assert lab.ready(run_id) == ["each.1.inner.0.cut", "each.0.check"]


def test_nested_loops_end_inwards_out(lab: Lab) -> None:
    run_id = run_of(lab, 2, INNER, output={"checked": "@steps('check').output", "n": "@index()"})
    lab.drain(run_id, lambda lease: ["p", "q"] if lease.step_key.endswith("parts") else lease.step_key)
    assert output(lab, run_id, "each.1.inner") == ["each.1.inner.0.glue", "each.1.inner.1.glue"]
    assert output(lab, run_id) == [{"checked": f"each.{n}.check", "n": n} for n in range(2)]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("concurrency", [None, 1])
def test_a_loop_of_one_step_may_stand_inside_an_item(lab: Lab, concurrency: int | None) -> None:
    window = {} if concurrency is None else {"concurrency": concurrency}
    steps = {
        "parts": call(),
        "inner": {
            "for_each": "@steps('parts').output",
            "steps": {
                "do": call(inputs={"part": "@item()", "line": "@item('each').id", "bill": "@steps('bill').output"})
            },
            **window,
        },
        "check": call(inputs={"done": "@steps('inner').output"}),
    }
    run_id = run_of(lab, 2, steps, output="@steps('check').output")
    lab.do(run_id, "bill", output="b")
    lab.do(run_id, "each.0.parts", output=[1, 2, 3])
    lease = lab.take(run_id, "each.0.inner.0.do")
    assert lab.inputs(lease) == {"part": 1, "line": "l0", "bill": "b"}
    lab.done(lease, "done")
    lab.drain(run_id, lambda lease: [7] if lease.step_key.endswith("parts") else lease.step_key, chain=True)
    assert output(lab, run_id, "each.0.inner") == ["done", "each.0.inner.1.do", "each.0.inner.2.do"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_an_item_of_which_every_step_is_skipped_is_skipped_and_fails_nothing(lab: Lab) -> None:
    steps = {"a": call(), "b": call(run_after={"a": ["skipped"]})}
    run_id = run_of(
        lab, 1, {"first": call(), **steps, "a": call(run_after={"first": ["failed"]})}, output="@steps('b').output"
    )
    lab.do(run_id, "bill")
    lab.drain(run_id)
    assert lab.statuses(run_id)["each.0"] == "succeeded"
    assert output(lab, run_id) == ["each.0.b"]


def test_an_item_that_skips_every_step_by_a_condition_is_skipped(lab: Lab) -> None:
    run_id = run_of(lab, 3, {"a": call(when="@index() == 1"), "b": after("a")}, output="@steps('b').output")
    lab.do(run_id, "bill")
    assert lab.drain(run_id) == ["each.1.a", "each.1.b", "join"]
    assert [lab.statuses(run_id)[f"each.{n}"] for n in range(3)] == ["skipped", "succeeded", "skipped"]
    assert lab.step(run_id, "each.0")["reason"] == "all of its steps were skipped"
    assert output(lab, run_id) == [None, "each.1.b", None]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def failed_run(lab: Lab, count: int = 3, **fields: Any) -> UUID:
    """Item 1 failed at `pack`."""
    run_id = run_of(lab, count, **fields)
    lab.do(run_id, "bill", output=1)
    while ready := lab.ready(run_id):
        lab.do_fail(run_id, ready[0]) if ready[0] == "each.1.pack" else lab.do(run_id, ready[0])
    assert lab.status(run_id) is RunStatus.FAILED
    return run_id


def test_a_step_of_an_item_that_was_skipped_for_a_failure_is_not_retried_by_itself(lab: Lab) -> None:
    """As in a run: what it was skipped for is."""
    body = {"a": call(), "b": after("a"), "c": call(run_after={"a": ["failed"], "b": ["succeeded"]})}
    run_id = run_of(lab, 2, body)
    lab.do(run_id, "bill")
    while ready := lab.ready(run_id):
        lab.do_fail(run_id, ready[0]) if ready[0] == "each.1.a" else lab.do(run_id, ready[0])
    before = lab.statuses(run_id), lab.events(run_id)
    with pytest.raises(Conflict, match=r"step each\.1\.b is skipped, and cannot run as what is before it ended"):
        retry_step.retry(lab.ledger, run_id, "each.1.b", by="me")
    assert (lab.statuses(run_id), lab.events(run_id)) == before
    retry_step.retry(lab.ledger, run_id, "each.1.a", by="me")
    assert lab.ready(run_id) == ["each.1.a"]


@pytest.mark.parametrize("concurrency", [None, 1])
@pytest.mark.parametrize("key", [None, "each", "each.1", "each.1.pack"])
def test_a_retry_runs_the_failed_steps_of_failed_items(lab: Lab, key: str | None, concurrency: int | None) -> None:
    run_id = failed_run(lab, **({} if concurrency is None else {"concurrency": concurrency}))
    retry_step.retry(lab.ledger, run_id, key, by="ada")
    assert lab.drain(run_id) == ["each.1.pack", "each.1.ship", "join"]
    assert output(lab, run_id) == [f"each.{n}.ship" for n in range(3)]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_retry_of_a_stopped_loop_lets_the_others_in(lab: Lab) -> None:
    run_id = failed_run(lab, 4, concurrency=1, stop_on_failure=True)
    assert lab.statuses(run_id)["each.3"] == "skipped"
    retry_step.retry(lab.ledger, run_id, "each.1.pack", by="ada")
    order = lab.drain(run_id)
    assert order == ["each.1.pack", "each.1.ship", *(f"each.{n}.{key}" for n in (2, 3) for key in GRAPH), "join"]
    assert output(lab, run_id) == [f"each.{n}.ship" for n in range(4)]


@pytest.mark.parametrize("key", [None, "each.1", "each.1.inner", "each.1.inner.1", "each.1.inner.1.cut"])
def test_a_retry_reaches_into_nested_loops(lab: Lab, key: str | None) -> None:
    run_id = run_of(lab, 2, INNER, output="@steps('check').output")
    while ready := lab.ready(run_id):
        if ready[0] == "each.1.inner.1.cut":
            lab.do_fail(run_id, ready[0])
        else:
            lab.do(run_id, ready[0], output=["p", "q"] if ready[0].endswith("parts") else ready[0])
    why = "inner failed: 1 of its items failed; the first, each.1.inner.1: cut failed: boom"
    assert lab.step(run_id, "each.1")["reason"] == why
    retry_step.retry(lab.ledger, run_id, key, by="ada")
    assert lab.drain(run_id) == ["each.1.inner.1.cut", "each.1.inner.1.glue", "each.1.check", "join"]
    assert output(lab, run_id, "each.1.inner") == ["each.1.inner.0.glue", "each.1.inner.1.glue"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


TWO = {"a": call(), "b": call()}


def test_a_step_is_retried_while_its_item_is_under_way(lab: Lab) -> None:
    run_id = run_of(lab, 1, TWO)
    lab.do(run_id, "bill")
    lab.do_fail(run_id, "each.0.a")
    retry_step.retry(lab.ledger, run_id, "each.0.a", by="ada")
    lab.audit()
    assert lab.drain(run_id) == ["each.0.b", "each.0.a", "join"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_failure_that_was_not_retried_fails_its_item_still(lab: Lab) -> None:
    run_id = run_of(lab, 1, TWO)
    lab.do(run_id, "bill")
    lab.do_fail(run_id, "each.0.a")
    lab.do_fail(run_id, "each.0.b")
    retry_step.retry(lab.ledger, run_id, "each.0.a", by="ada")
    assert lab.drain(run_id) == ["each.0.a"]
    assert lab.status(run_id) is RunStatus.FAILED
    assert lab.step(run_id, "each.0")["reason"] == "b failed: boom"


@pytest.mark.parametrize("beside", [True, False])
def test_a_step_is_retried_while_the_loops_around_are_under_way(lab: Lab, beside: bool) -> None:
    """Another item of the inner loop is open; or only another step beside that loop."""
    run_id = run_of(lab, 1, {**INNER, "also": call()}, output="@steps('check').output")
    lab.do(run_id, "bill")
    lab.do(run_id, "each.0.parts", output=["p", "q"])
    lab.do(run_id, "each.0.inner.0.cut")
    lab.do_fail(run_id, "each.0.inner.1.cut")
    if not beside:
        lab.do(run_id, "each.0.inner.0.glue")
        assert lab.statuses(run_id)["each.0.inner"] == "failed"
    retry_step.retry(lab.ledger, run_id, "each.0.inner.1.cut", by="ada")
    lab.audit()
    lab.drain(run_id)
    assert lab.attempts(run_id, "each.0.inner.1.cut") == [(1, "failed"), (2, "succeeded")]
    assert output(lab, run_id, "each.0.inner") == ["each.0.inner.0.glue", "each.0.inner.1.glue"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("errors", ["fail", "collect"])
@pytest.mark.parametrize("key", [None, "each"])
def test_a_retry_of_the_run_reaches_failed_steps_of_items_that_are_under_way(
    lab: Lab, errors: str, key: str | None
) -> None:
    """Also in loops of theirs, and beside items that failed. What runs is left alone."""
    run_id = run_of(lab, 3, {**INNER, "also": call()}, output="@steps('check').output", errors=errors)
    lab.do(run_id, "bill")
    for n in (0, 1):
        lab.do(run_id, f"each.{n}.parts", output=["p", "q"])
    lab.do_fail(run_id, "each.0.inner.1.cut")
    lab.do(run_id, "each.0.inner.0.cut")
    running = lab.take(run_id, "each.1.inner.0.cut")
    lab.do_fail(run_id, "each.1.also")
    lab.do(run_id, "each.2.also")
    lab.do_fail(run_id, "each.2.parts")
    wanted = [lab.statuses(run_id)[f"each.{n}"] for n in range(3)]
    assert wanted == ["running", "running", "failed"]
    if key is not None:
        with pytest.raises(Conflict, match="step each is running, not failed"):
            retry_step.retry(lab.ledger, run_id, key, by="ada")
        return
    retry_step.retry(lab.ledger, run_id, key, by="ada")
    lab.audit()
    assert {"each.0.inner.1.cut", "each.1.also", "each.2.parts"} <= set(lab.ready(run_id))
    assert lab.attempts(run_id, "each.1.inner.0.cut") == [(1, "running")]
    lab.done(running, "cut")
    order = lab.drain(run_id, lambda lease: ["p", "q"] if lease.step_key.endswith("parts") else lease.step_key)
    assert not {"each.0.parts", "each.0.inner.0.cut", "each.2.also"}.intersection(order)
    assert lab.status(run_id) is RunStatus.SUCCEEDED
    given = output(lab, run_id)
    assert [one["value"] for one in given] if errors == "collect" else given == [f"each.{n}.check" for n in range(3)]


def test_a_handled_failure_of_an_item_that_is_under_way_is_not_taken_back(lab: Lab) -> None:
    """It fails nothing; the failed item beside it is retried all the same."""
    steps = {"a": call(), "refund": call(run_after={"a": ["failed"]}), "b": call()}
    run_id = run_of(lab, 2, steps)
    lab.do(run_id, "bill")
    lab.do_fail(run_id, "each.0.a")
    lab.do(run_id, "each.0.refund")
    lab.do_fail(run_id, "each.1.b")
    lab.do(run_id, "each.1.a")
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    assert sorted(lab.ready(run_id)) == ["each.0.b", "each.1.b"]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_stopped_loop_inside_of_an_item_lets_the_others_in_again(lab: Lab) -> None:
    inner = {**INNER["inner"], "concurrency": 1, "stop_on_failure": True}
    run_id = run_of(lab, 1, {**INNER, "inner": inner}, output="@steps('check').output")
    lab.do(run_id, "bill")
    lab.do(run_id, "each.0.parts", output=["p", "q"])
    lab.do_fail(run_id, "each.0.inner.0.cut")
    lab.drain(run_id)
    assert lab.statuses(run_id)["each.0.inner.1"] == "skipped"
    retry_step.retry(lab.ledger, run_id, "each.0.inner.0.cut", by="ada")
    lab.drain(run_id)
    assert output(lab, run_id, "each.0.inner") == ["each.0.inner.0.glue", "each.0.inner.1.glue"]


@pytest.mark.parametrize("key", ["each.0", "each.0.pick", "each.1.pick", "each.7", "each.1.nothing"])
def test_what_did_not_fail_is_not_run_again(lab: Lab, key: str) -> None:
    run_id = failed_run(lab)
    with pytest.raises((Conflict, StepNotFound)):
        retry_step.retry(lab.ledger, run_id, key, by="ada")


def test_a_cancelled_run_goes_on_inside_its_items(lab: Lab) -> None:
    run_id = run_of(lab, 3, concurrency=2)
    lab.do(run_id, "bill", output=1)
    lab.do(run_id, "each.0.pick")
    cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=timedelta(seconds=5))
    assert lab.status(run_id) is RunStatus.CANCELLED
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    assert "each.0.pick" not in lab.drain(run_id)
    assert output(lab, run_id)[1:] == ["each.1.ship", "each.2.ship"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_items_and_their_steps_are_shown(lab: Lab) -> None:
    run_id = run_of(lab, 3, concurrency=2)
    lab.do(run_id, "bill", output=1)
    lab.do(run_id, "each.0.pick")
    rows = {row.key: row for row in reads.steps.page(lab.ledger, run_id)}
    assert list(rows)[:5] == ["bill", "each", "each.0", "each.0.pick", "each.0.pack"]
    assert (rows["each"].children_total, rows["each"].children_open) == (3, 3)
    assert rows["each.0"].kind is StepKind.ITEM
    inside = reads.steps.children(lab.ledger, run_id, "each.0")
    assert [row.key for row in inside] == ["each.0.pick", "each.0.pack", "each.0.ship"]
    assert [row.key for row in reads.steps.children(lab.ledger, run_id, "each")] == ["each.0", "each.1", "each.2"]

    def why(key: str) -> str:
        return explain.explain(lab.ledger, run_id, key).sentence

    assert why("each").startswith(
        "Loop each has 0 of 3 items done, 0 failed. It runs 2 at a time. Item each.0 has 1 of 3"
    )
    assert why("each.0").startswith("Item each.0 has 1 of 3 steps done. Step each.0.pack has been ready")
    assert why("each.0.ship") == "Step each.0.ship waits for each.0.pack (ready)."
    assert why("each.2") == "Item each.2 waits for a place: loop each runs 2 at a time."


def test_an_item_may_end_with_a_sleep(lab: Lab) -> None:
    """Each has its own; the loop ends with the last."""
    body = {"work": call(), "nap": {"sleep": "PT5S", "run_after": {"work": ["succeeded"]}}}
    run_id = lab.run({"each": {"for_each": [1, 2], "steps": body}, "join": after("each")})
    lab.do(run_id, "each.0.work", "each.1.work")
    assert lab.statuses(run_id)["each.1.nap"] == "waiting"
    lab.audit()
    lab.forward(6)
    wake(lab.ledger)
    lab.audit()
    assert lab.drain(run_id) == ["join"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


# ---- the statement that ends an item ----

CHAIN = {
    "pick": call(inputs={"n": "@index()"}),
    "pack": after("pick"),
    "ship": call(inputs={"it": "@steps('pack').output"}),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that are run, in order."""
    found: list[str] = []
    text_of = rows.text_of
    monkeypatch.setattr(rows, "text_of", lambda tx, name: found.append(name) or text_of(tx, name))
    return found


def chained(lab: Lab, lease: Lease, count: int) -> Lease:
    """Finish so many steps, each with its key, by one worker that goes on."""
    for _ in range(count):
        following = lab.done(lease, lease.step_key, chain=True).next
        assert following is not None
        lease = following
    return lease


def test_steps_of_items_cost_a_statement_each_and_know_nothing_of_one_another(lab: Lab, asked: list[str]) -> None:
    run_id = run_of(lab, 5, CHAIN, output="@steps('ship').output", concurrency=2)
    lab.do(run_id, "bill")
    lease = lab.take(run_id, "each.0.pick")
    asked.clear()
    lease = chained(lab, lease, 9)
    assert asked == ["finish_mid", "finish_mid", "finish_item"] * 3
    assert lease.step_key == "each.4.pick"
    assert not any(key.startswith("each.") for key in lease.known), "what grows with the loop is not carried along"
    assert lab.inputs(lease) == {"n": 4}
    lease = chained(lab, lab.take(run_id, "each.1.pick"), 2)
    asked.clear()
    assert lab.done(lease, "one").next is None
    assert asked == ["finish_item"]


def test_the_next_item_is_dispatched_where_the_worker_does_not_go_on(lab: Lab, asked: list[str]) -> None:
    run_id = run_of(lab, 3, CHAIN, output={"sent": "@steps('ship').output"}, concurrency=1)
    lab.do(run_id, "bill")
    lab.do(run_id, "each.0.pick", "each.0.pack")
    lease = lab.take(run_id, "each.0.ship")
    asked.clear()
    finished = lab.done(lease, "gone")
    assert asked == ["finish_item"]
    assert [one.step_key for one in finished.dispatches] == ["each.1.pick"]
    assert output(lab, run_id, "each.0") == {"sent": "gone"}
    lab.drain(run_id)
    assert output(lab, run_id) == [{"sent": "gone"}, {"sent": "each.1.ship"}, {"sent": "each.2.ship"}]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("steps", "made_of"),
    [
        (CHAIN, "@steps('pick').output"),  # no longer in hand
        (CHAIN, {"item": "@item().id"}),
        (
            {"a": call(), "b": call(), "c": call(run_after={"a": ["succeeded"], "b": ["succeeded"]})},
            "@steps('c').output",
        ),
        ({"a": call(), "b": after("a"), "c": after("a")}, "@steps('c').output"),
    ],
)
def test_other_items_end_on_the_general_path(lab: Lab, asked: list[str], steps: dict[str, Any], made_of: Any) -> None:
    run_id = run_of(lab, 3, steps, output=made_of, concurrency=1)
    lab.drain(run_id)
    assert "finish_item" not in asked
    assert len(output(lab, run_id)) == 3
    assert None not in output(lab, run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_an_item_that_was_in_before_is_let_in_by_the_general_path(lab: Lab, asked: list[str]) -> None:
    run_id = run_of(lab, 3, CHAIN, output="@steps('ship').output", concurrency=1)
    lab.do(run_id, "bill")
    for n in range(3):
        lab.do(run_id, f"each.{n}.pick", f"each.{n}.pack")
        lab.do_fail(run_id, f"each.{n}.ship")
    assert lab.status(run_id) is RunStatus.FAILED
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    asked.clear()
    lab.drain(run_id, chain=True)
    assert output(lab, run_id) == [f"each.{n}.ship" for n in range(3)]
    assert [lab.step(run_id, f"each.{n}.pick")["attempts"] for n in range(3)] == [1, 1, 1]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_cancelled_run_lets_no_item_in(lab: Lab) -> None:
    run_id = run_of(lab, 3, CHAIN, output="@steps('ship').output", concurrency=1)
    lab.do(run_id, "bill")
    lease = chained(lab, lab.take(run_id, "each.0.pick"), 2)
    cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=timedelta(seconds=5))
    assert lab.done(lease, "late", chain=True).next is None
    assert lab.statuses(run_id)["each.1"] == "cancelled"
    assert lab.status(run_id) is RunStatus.CANCELLED


def test_an_item_whose_last_step_succeeded_while_its_run_was_stopped_ends_with_the_retry(lab: Lab) -> None:
    run_id = run_of(lab, 2, {"a": call()}, output="@steps('a').output")
    lab.do(run_id, "bill")
    held = lab.take(run_id, "each.0.a")
    cancel_run.cancel(lab.ledger, run_id, by="ada", reason="enough", grace=timedelta(seconds=9))
    lab.done(held, "late")
    assert lab.status(run_id) is RunStatus.CANCELLED
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    assert lab.statuses(run_id)["each.0"] == "succeeded"
    assert lab.ready(run_id) == ["each.1.a"]
    lab.do(run_id, "each.1.a", "join")
    assert output(lab, run_id) == ["late", "each.1.a"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


# ---- places of items that wait ----


@pytest.mark.parametrize("concurrency", [None, 2])
def test_an_item_in_back_off_gives_its_place_to_the_next_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, concurrency: int | None
) -> None:
    monkeypatch.setattr("orchestrator.core.plan.node.WINDOW", 2)
    window = {} if concurrency is None else {"concurrency": concurrency}
    steps = {"a": call(retry=retry(3, 1)), "b": call(), "c": after("a")}
    run_id = run_of(lab, 4, steps, **window)
    lab.do(run_id, "bill")
    lab.fail(lab.take(run_id, "each.0.a"))
    assert lab.statuses(run_id)["each.2"] == "blocked", "b of the same item could run"
    lab.do(run_id, "each.0.b", "each.1.b")
    lab.fail(lab.take(run_id, "each.1.a"))
    assert lab.statuses(run_id)["each.2"] == ("running" if concurrency is None else "blocked")
    assert lab.statuses(run_id)["each.3"] == "blocked"
    lab.audit()
    lab.forward(5)
    sweep.due(lab.ledger)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_an_item_that_polls_gives_its_place_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.core.plan.node.WINDOW", 1)
    steps = {"a": call(poll={"every": "PT10S", "timeout": "PT1H"}), "b": after("a")}
    run_id = run_of(lab, 3, steps)
    lab.do(run_id, "bill")
    for _ in range(3):
        polls.not_yet(lab.ledger, lab.take(run_id, "each.0.a"), NotReady("not yet"))
        lab.forward(11)
        sweep.due(lab.ledger)
    assert [lab.statuses(run_id)[f"each.{n}"] for n in range(3)] == ["running", "running", "blocked"]
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


# ---- races inside of items ----

RACE = {
    "fast": call(),
    "before": call(),
    "slow": after("before"),
    "best": {
        "value": "@steps('fast').output ?? @steps('slow').output",
        "join": "any",
        "run_after": {"fast": ["succeeded"], "slow": ["succeeded"]},
    },
    "use": call(inputs={"best": "@steps('best').output"}),
}


def test_a_race_withdraws_steps_of_its_item_only(lab: Lab) -> None:
    run_id = run_of(lab, 2, RACE, output="@steps('best').output")
    lab.do(run_id, "bill")
    lab.do(run_id, "each.0.fast", output=5)
    lab.audit()
    found = lab.statuses(run_id)
    assert [found[f"each.0.{key}"] for key in RACE] == ["succeeded", "skipped", "skipped", "succeeded", "ready"]
    assert [found[f"each.1.{key}"] for key in RACE] == ["ready", "ready", "blocked", "blocked", "blocked"]
    assert lab.step(run_id, "each.0.slow")["reason"] == "withdrawn: each.0.best was decided by each.0.fast"
    lab.do(run_id, "each.1.before", "each.1.slow", output=7)
    lab.drain(run_id)
    assert output(lab, run_id) == [5, 7]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_late_sibling_is_waited_for_and_counted_once(lab: Lab, fails: bool, last: bool) -> None:
    """The item ends with whichever ends last, and lets the next one in; a late failure is none of the item's."""
    run_id = run_of(lab, 2, RACE, output="@steps('best').output", concurrency=1)
    lab.do(run_id, "bill")
    lab.do(run_id, "each.0.before")
    slow = lab.take(run_id, "each.0.slow")
    lab.do(run_id, "each.0.fast", output=5)
    lab.audit()

    def end() -> None:
        lab.fail(slow, retryable=False) if fails else lab.done(slow, 7)

    if not last:
        end()
    assert lab.statuses(run_id)["each.0"] == "running"
    lab.do(run_id, "each.0.use")
    if last:
        assert lab.statuses(run_id)["each.0"] == "running"
        end()
    lab.audit()
    assert sorted(lab.ready(run_id)) == ["each.1.before", "each.1.fast"]
    lab.drain(run_id)
    assert output(lab, run_id)[0] == 5
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_retried_loser_of_an_item_decides_nothing(lab: Lab) -> None:
    run_id = run_of(lab, 1, {**RACE, "end": after("use")}, output="@steps('best').output")
    lab.do(run_id, "bill")
    lab.do(run_id, "each.0.before")
    slow = lab.take(run_id, "each.0.slow")
    lab.do(run_id, "each.0.fast", "each.0.use")
    lab.fail(slow, retryable=False)
    lab.do_fail(run_id, "each.0.end")
    retry_step.retry(lab.ledger, run_id, None, by="op")
    lab.audit()
    assert sorted(lab.drain(run_id)) == ["each.0.end", "each.0.slow", "join"]
    assert output(lab, run_id) == ["each.0.fast"]


def test_a_step_that_went_early_in_an_item_sees_what_had_ended(lab: Lab) -> None:
    inputs = {"fast": "@steps('fast').output", "slow": "@steps('slow').output", "bill": "@steps('bill').output"}
    steps = {"fast": call(), "slow": call(), "use": call(inputs=inputs, join="any")}
    run_id = run_of(lab, 1, steps, output="@steps('use').output")
    lab.do(run_id, "bill", output="b")
    slow = lab.take(run_id, "each.0.slow")
    lab.do(run_id, "each.0.fast", output=1)
    lab.done(slow, 2)
    assert lab.inputs(lab.take(run_id, "each.0.use")) == {"fast": 1, "slow": None, "bill": "b"}
