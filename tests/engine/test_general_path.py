"""The general path: one statement for all that ended together, and the next step for the worker that asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.core.facts import Chain, Success
from orchestrator.core.states import RunStatus
from orchestrator.engine.steps import finish_step, retry_step
from tests.support.factories import LEASE, Lab, after, call, keys, loop


@contextmanager
def statements(lab: Lab) -> Iterator[list[str]]:
    """What the general path sends meanwhile."""
    sent: list[str] = []

    def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(lab.ledger.engine, "before_cursor_execute", note)
    yield sent
    event.remove(lab.ledger.engine, "before_cursor_execute", note)


# ---- handing on ----

ONE_MAY_GO = {
    "two successors, one of which waits for more": ({"a": call(), "b": after("a"), "c": after("a", "b")}, "a", "b"),
    "a loop's last child": ({"each": loop([1]), "b": after("each")}, "each.0.do", "b"),
    "a step whose successor's other successor is skipped": (
        {"a": call(), "b": after("a"), "c": call(run_after={"a": ["failed"]})},
        "a",
        "b",
    ),
    "an empty loop between": (
        {"a": call(), "each": loop([], run_after={"a": ["succeeded"]}), "b": after("each")},
        "a",
        "b",
    ),
}


@pytest.mark.parametrize("shape", ONE_MAY_GO)
def test_the_only_step_that_may_go_stays_with_the_worker(lab: Lab, shape: str) -> None:
    """In the commit of the finish, without a dispatch."""
    steps, first, second = ONE_MAY_GO[shape]
    run_id = lab.run(steps)
    lease = lab.take(run_id, first)
    finished = finish_step.finish(lab.ledger, lease, Success('{"x": 1}', chain=Chain(LEASE, frozenset({lease.task}))))
    assert finished.dispatches == ()
    following = finished.next
    assert following is not None
    assert (following.step_key, following.attempt, following.fence, following.owner) == (second, 1, 1, lease.owner)
    assert following.known.get(first) in ({"x": 1}, None)
    settled = finish_step.settled(lab.ledger, lease)
    assert settled is not None
    assert settled.next is not None
    assert settled.next.step_key == second
    lab.done(following)
    lab.drain(run_id)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_two_that_may_go_are_dispatched(lab: Lab) -> None:
    """One worker cannot run both; the other would wait for it."""
    run_id = lab.run({"a": call(), "b": after("a"), "c": after("a")})
    finished = lab.done(lab.take(run_id, "a"), chain=True)
    assert (finished.next, keys(finished.dispatches)) == (None, ["b", "c"])
    lab.drain(run_id)


@pytest.mark.parametrize("other", [{"queue": "slow"}, {"priority": 9}, {"type": "unknown_here"}], ids=str)
def test_what_does_not_fit_the_worker_is_dispatched(lab: Lab, other: dict[str, Any]) -> None:
    """Another queue, another priority, another handler: the same rules as for a plain successor."""
    b = {**after("a"), **other}
    run_id = lab.run({"a": call(), "b": b, "c": after("a", "b")})
    finished = lab.done(lab.take(run_id, "a"), chain=True)
    assert (finished.next, keys(finished.dispatches)) == (None, ["b"])
    lab.drain(run_id)


def test_the_rest_of_a_loop_with_a_looked_up_window_stays_with_the_worker(lab: Lab) -> None:
    """After an operator's retry the next child is looked up: on the general path, one after the other."""
    run_id = lab.run({"each": loop([1, 2, 3, 4], concurrency=1)})
    for n in range(4):
        lab.do(run_id, f"each.{n}.do") if n == 1 else lab.do_fail(run_id, f"each.{n}.do")
    retry_step.retry(lab.ledger, run_id, None, by="me")
    assert lab.step(run_id, "each")["children_next"] < 0
    assert lab.ready(run_id) == ["each.0.do"]
    assert lab.drain(run_id, chain=True) == ["each.0.do", "each.2.do", "each.3.do"]
    assert sum("dispatched" in each for each in lab.events(run_id)[-12:]) == 1
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_chain_with_a_general_step_takes_as_many_commits_as_a_plain_one(lab: Lab) -> None:
    """One message and one claim for all five steps."""
    steps = {"a": call(), "b": after("a"), "c": after("b"), "d": after("c"), "e": after("c", "d")}
    run_id = lab.run(steps)
    assert lab.drain(run_id, chain=True) == ["a", "b", "c", "d", "e"]
    assert sum("dispatched" in each for each in lab.events(run_id)) == 1


# ---- skips ----


@pytest.mark.parametrize("width", [10, 1000])
def test_steps_that_are_skipped_together_cost_one_statement(lab: Lab, width: int) -> None:
    """With the run locked, a round trip for each would hold up everything else of it."""
    run_id = lab.run(
        {"a": call(), **{f"b{n}": after("a") for n in range(width)}, "join": after(*[f"b{n}" for n in range(width)])}
    )
    lease = lab.take(run_id, "a")
    with statements(lab) as sent:
        finished = lab.fail(lease, retryable=False)
    assert finished.run_status is RunStatus.FAILED
    assert set(lab.statuses(run_id).values()) == {"failed", "skipped"}
    assert len(sent) <= 15, sent


def test_a_cascade_of_a_thousand_skips_costs_one_statement_each(lab: Lab) -> None:
    """Each is a generation of its own, because it waits for the one before."""
    run_id = lab.run({"s0": call(), **{f"s{n}": after(f"s{n - 1}") for n in range(1, 1001)}})
    lease = lab.take(run_id, "s0")
    with statements(lab) as sent:
        lab.fail(lease, retryable=False)
    assert len(sent) <= 1000 + 15
    assert lab.status(run_id) is RunStatus.FAILED
    assert lab.step(run_id, "s1")["reason"] == "s0 failed, `run_after` asks for succeeded"
    assert lab.step(run_id, "s1000")["reason"] == "s999 was skipped, `run_after` asks for succeeded"


def test_a_reason_names_the_first_predecessor_in_the_manifests_order(lab: Lab) -> None:
    """Whichever of them ended last."""
    asked = {"a": ["succeeded", "skipped"], "b": ["failed", "succeeded"], "c": ["failed"], "d": ["failed"]}
    run_id = lab.run({**{key: call() for key in "abcd"}, "last": call(run_after=asked)})
    lab.do(run_id, "d", "c", "b", "a")
    step = lab.step(run_id, "last")
    assert (step["status"], step["reason"]) == ("skipped", "c succeeded, `run_after` asks for failed")


def test_a_failure_counts_once_when_all_who_asked_for_it_are_skipped_together(lab: Lab) -> None:
    """Two handlers in one generation."""
    asks = {"a": ["failed"], "b": ["failed"]}
    run_id = lab.run({"a": call(), "b": call(), "x": call(run_after=asks), "y": call(run_after=asks)})
    lab.do_fail(run_id, "a")
    assert lab.run_row(run_id)["failures"] == 0
    lab.do(run_id, "b")
    assert lab.run_row(run_id)["failures"] == 1
    assert lab.status(run_id) is RunStatus.FAILED
