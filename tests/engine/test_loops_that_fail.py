"""Loops with failed items: those that collect errors, and those that stop."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import StepError
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import explain as explained
from orchestrator.engine.steps import retry_step
from orchestrator.engine.sweeps import sweep
from orchestrator.errors import Conflict
from orchestrator.ledger import reads
from tests.support.factories import Lab, after, call, loop, retry

ITEMS = {"items": ["a", "b", "c", "d"]}


def run_of(lab: Lab, *, items: Any = None, body: dict[str, Any] | None = None, **fields: Any) -> UUID:
    """A loop over the input, and a step that follows."""
    steps = {"each": loop("@triggerBody().items", body=body, **fields), "join": after("each")}
    return lab.run(steps, ITEMS if items is None else {"items": items})


def output(lab: Lab, run_id: UUID) -> Any:
    return reads.steps.output(lab.ledger, run_id, "each")


def events(lab: Lab, run_id: UUID, type: str) -> list[tuple[str | None, Any]]:
    return [(e.step_key, e.facts) for e in reads.events.of_run(lab.ledger, run_id) if e.type == type]


# ---- collecting ----


@pytest.mark.parametrize("last", ["each.1.do", "each.3.do"], ids=["ends with the failure", "ends with a success"])
def test_a_loop_that_collects_errors_succeeds_with_an_outcome_for_each_item(lab: Lab, last: str) -> None:
    run_id = run_of(lab, errors="collect")
    for key in [*sorted({f"each.{n}.do" for n in range(4)} - {last}), last]:
        if key == "each.1.do":
            lab.do_fail(run_id, key, error=StepError("Refused", "no such street"))
        else:
            lab.do(run_id, key, output={"n": key})
    assert lab.statuses(run_id) | {"each.1.do": "failed", "each": "succeeded"} == lab.statuses(run_id)
    good = {"ok": True, "error": None, "skipped": None}
    assert output(lab, run_id) == [
        {**good, "value": {"n": "each.0.do"}},
        {
            "ok": False,
            "value": None,
            "error": {"step": "each.1.do", "type": "Refused", "message": "no such street"},
            "skipped": None,
        },
        {**good, "value": {"n": "each.2.do"}},
        {**good, "value": {"n": "each.3.do"}},
    ]
    lab.do(run_id, "join")
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_it_collects_where_none_failed_and_where_there_are_no_items(lab: Lab) -> None:
    run_id = run_of(lab, items=[7], errors="collect")
    lab.done(lab.take(run_id, "each.0.do"))
    assert output(lab, run_id) == [{"ok": True, "value": None, "error": None, "skipped": None}]
    lab.do(run_id, "join")
    bodies: list[Any] = [{"items": []}, {"items": None}, {}]
    for body in bodies:
        empty = lab.start(body=body)
        assert output(lab, empty) == []
        lab.do(empty, "join")


def test_its_error_is_that_of_the_last_attempt_or_of_the_wait_for_one(lab: Lab) -> None:
    run_id = run_of(lab, items=[1, 2], errors="collect", body={"retry": retry(2), "queue_timeout": "PT1M"})
    lab.fail(lab.take(run_id, "each.0.do"), StepError("First", "x"))
    lab.forward(2)
    sweep.due(lab.ledger)
    lab.fail(lab.take(run_id, "each.0.do"), StepError("Second", "y"))
    lab.forward(120)
    sweep.queue_timeouts(lab.ledger)
    errors = [one["error"] for one in output(lab, run_id)]
    assert (errors[0]["type"], errors[0]["message"]) == ("Second", "y")
    assert errors[1]["type"] == "QueueTimeout"
    assert errors[1]["message"].startswith("no worker")
    lab.do(run_id, "join")


def test_an_item_of_a_loop_that_succeeded_is_not_run_again(lab: Lab) -> None:
    run_id = run_of(lab, errors="collect")
    lab.do_fail(run_id, "each.1.do")
    lab.do(run_id, "each.0.do", "each.2.do", "each.3.do")
    lab.do_fail(run_id, "join")
    with pytest.raises(Conflict, match=r"loop each succeeded, and what became of each\.1\.do is in its output"):
        retry_step.retry(lab.ledger, run_id, "each.1.do", by="ada")
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    assert lab.ready(run_id) == ["join"]
    lab.do(run_id, "join")


# ---- stopping ----


@pytest.mark.parametrize("concurrency", [None, 2])
def test_a_loop_stops_at_the_first_failure(lab: Lab, concurrency: int | None) -> None:
    """Those that run go on; what did not begin is skipped, and a skipped item is no failure."""
    run_id = run_of(lab, stop_on_failure=True, concurrency=concurrency)
    running = lab.take(run_id, "each.1.do")
    lab.do_fail(run_id, "each.0.do")
    assert lab.statuses(run_id) == {
        "each": "running",
        "each.0.do": "failed",
        "each.1.do": "running",
        "each.2.do": "skipped",
        "each.3.do": "skipped",
        "join": "blocked",
    }
    why = "the loop stopped: each.0 failed"
    assert lab.step(run_id, "each.3.do")["reason"] == why
    assert events(lab, run_id, "step.stopped") == [("each", {"failed": "each.0", "skipped": 2})]
    assert sorted(events(lab, run_id, "step.skipped")) == [(f"each.{n}.do", {"reason": why}) for n in (2, 3)]
    sentence = explained.explain(lab.ledger, run_id, "each").sentence
    assert sentence.startswith("Loop each has 3 of 4 items done, 1 failed (each.0.do). It stopped there")
    lab.done(running)
    assert lab.step(run_id, "each")["reason"] == "1 of its items failed; the first, each.0.do: boom"
    assert lab.status(run_id) is RunStatus.FAILED


def test_what_waits_for_its_back_off_is_skipped_and_what_runs_is_not_tried_again(lab: Lab) -> None:
    run_id = run_of(lab, stop_on_failure=True, body={"retry": retry(5)})
    lab.fail(lab.take(run_id, "each.3.do"))
    running = [lab.take(run_id, f"each.{n}.do") for n in (1, 2)]
    lab.do_fail(run_id, "each.0.do")
    assert lab.step(run_id, "each.3.do")["status"] == "skipped"
    lab.fail(running[0])
    assert lab.step(run_id, "each.1.do")["status"] == "failed"
    assert len(events(lab, run_id, "step.stopped")) == 1
    lab.done(running[1])
    assert lab.step(run_id, "each")["reason"].startswith("2 of its items failed; the first, each.0.do")


def test_a_child_that_is_being_claimed_runs_on(lab: Lab) -> None:
    """Nobody waits for its lock, and it ends like those that ran."""
    run_id = run_of(lab, stop_on_failure=True, items=[1, 2, 3])
    lease = lab.take(run_id, "each.0.do")
    lock = "SELECT FROM flow_steps WHERE run_id = %s AND step_key = 'each.2.do' FOR NO KEY UPDATE"
    with lab.holding(lock, run_id):
        lab.fail(lease, retryable=False)
    assert lab.statuses(run_id)["each.1.do"] == "skipped"
    assert lab.statuses(run_id)["each.2.do"] == "ready"
    lab.do(run_id, "each.2.do")
    assert lab.status(run_id) is RunStatus.FAILED


def test_a_child_that_lets_the_next_one_in_and_one_that_stops_the_loop(lab: Lab) -> None:
    """Both take the loop's row first: whichever commits first, no count is lost, and neither waits for the other's
    child."""
    for _ in range(10):
        run_id = run_of(lab, items=list(range(6)), stop_on_failure=True, concurrency=2)
        good, bad = lab.take(run_id, "each.0.do"), lab.take(run_id, "each.1.do")
        lab.race(lambda good=good: lab.done(good), lambda bad=bad: lab.fail(bad, retryable=False))  # type: ignore[misc]
        statuses = [lab.statuses(run_id)[f"each.{n}.do"] for n in range(6)]
        assert statuses[:2] == ["succeeded", "failed"]
        assert set(statuses[3:]) == {"skipped"}
        lab.drain(run_id)
        assert lab.status(run_id) is RunStatus.FAILED
        lab.audit()


@pytest.mark.parametrize("key", [None, "each", "each.0.do"])
def test_a_retry_goes_on_with_what_was_not_let_in(lab: Lab, key: str | None) -> None:
    run_id = run_of(lab, stop_on_failure=True, concurrency=2)
    running = lab.take(run_id, "each.1.do")
    lab.do_fail(run_id, "each.0.do")
    lab.done(running, "each.1.do")
    retry_step.retry(lab.ledger, run_id, key, by="ada")
    order = lab.drain(run_id)
    assert (sorted(order[:-1]), order[-1]) == (["each.0.do", "each.2.do", "each.3.do"], "join")
    assert output(lab, run_id) == ["each.0.do", "each.1.do", "each.2.do", "each.3.do"]
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_retry_of_one_of_two_failures_leaves_the_loop_stopped(lab: Lab) -> None:
    run_id = run_of(lab, stop_on_failure=True)
    other = lab.take(run_id, "each.1.do")
    lab.do_fail(run_id, "each.0.do")
    lab.fail(other, retryable=False)
    retry_step.retry(lab.ledger, run_id, "each.0.do", by="ada")
    assert lab.drain(run_id) == ["each.0.do"]
    assert lab.status(run_id) is RunStatus.FAILED


@pytest.mark.parametrize("steps", [{"do": call()}, {"a": call(), "b": after("a")}], ids=["one", "graph"])
def test_a_loop_over_too_many_items_fails_and_runs_when_more_are_allowed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, steps: dict[str, Any]
) -> None:
    monkeypatch.setattr(lab.ledger, "loop_limit", 3)
    run_id = lab.run({"each": {"for_each": "@triggerBody().all", "steps": steps}}, {"all": [1, 2, 3, 4]})
    assert lab.status(run_id) is RunStatus.FAILED
    assert lab.step(run_id, "each")["reason"] == (
        "for_each of loop each gave 4 items, and a loop may have 3. Fix: split the list over several runs, or set "
        "ORCHESTRATOR_LOOP_LIMIT"
    )
    assert list(lab.statuses(run_id)) == ["each"]
    monkeypatch.setattr(lab.ledger, "loop_limit", 4)
    retry_step.retry(lab.ledger, run_id, None, by="ada")
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


@pytest.mark.parametrize("errors", ["fail", "collect"])
def test_items_of_a_loop_that_is_over_are_told_by_where_they_stand(lab: Lab, errors: str) -> None:
    run_id = lab.run({"each": loop(list(range(25)), errors=errors), "x": call(run_after={"each": ["failed"]})})
    for n in (3, 7, 9, 20):
        lab.do_fail(run_id, f"each.{n}.do")
    lab.drain(run_id)
    grouped = "21 succeeded, 4 failed: each.3.do, each.7.do, each.9.do, …."
    assert explained.explain(lab.ledger, run_id, "each").sentence.endswith(f"Its items: {grouped}")
    assert f" Items of each: {grouped}" in explained.explain(lab.ledger, run_id).sentence
