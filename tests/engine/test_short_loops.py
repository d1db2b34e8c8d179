"""A loop that is over soon is opened by one statement and closed by one; what that refuses goes the general path."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import Finished
from orchestrator.core.states import RunStatus
from orchestrator.engine.steps import finish_step
from orchestrator.ledger import finishes, reads, rows
from tests.support.factories import Lab, after, call, keys, loop

FAN = {"list": call(), "each": loop("@steps('list').output"), "join": after("each")}
GENERAL = "finish_general"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that are run, in order."""
    found: list[str] = []
    text_of = rows.text_of
    monkeypatch.setattr(rows, "text_of", lambda tx, name: found.append(name) or text_of(tx, name))
    return found


def opened(lab: Lab, output: Any, steps: dict[str, Any] | None = None) -> tuple[UUID, Finished]:
    """A run whose list was given, by a worker that would go on."""
    run_id = lab.run(steps or FAN)
    return run_id, lab.done(lab.take(run_id, "list"), output, chain=True)


def test_a_fan_out_of_ten_and_its_join_cost_a_statement_for_each_completion(lab: Lab, asked: list[str]) -> None:
    """And each is its own commit and round trip. The worker that gives the list runs the first child itself."""
    run_id = lab.run(FAN)
    first = lab.take(run_id, "list")
    asked.clear()
    finished = lab.done(first, list(range(10)), chain=True)
    assert asked == ["finish_open"]
    assert keys(finished.dispatches) == [f"each.{n}.do" for n in range(1, 10)]
    assert finished.next is not None
    assert lab.inputs(finished.next) == {"item": 0, "index": 0}
    leases = [finished.next, *(lab.take(run_id, f"each.{n}.do") for n in range(1, 10))]
    asked.clear()
    for lease in leases:
        finished = lab.done(lease, lease.index, chain=True)
    assert asked == ["finish_child"] * 10 + ["finish_last"]
    assert reads.steps.output(lab.ledger, run_id, "each") == list(range(10))
    assert finished.next is not None
    lab.done(finished.next)
    assert lab.status(run_id) is RunStatus.SUCCEEDED


def test_a_list_inside_the_output_is_found(lab: Lab, asked: list[str]) -> None:
    run_id, finished = opened(lab, {"rows": ["a", "b"]}, {**FAN, "each": loop("@steps('list').output.rows")})
    assert GENERAL not in asked
    assert finished.next is not None
    lab.done(finished.next, "A")
    lab.do(run_id, "each.1.do", output="B")
    assert reads.steps.output(lab.ledger, run_id, "each") == ["A", "B"]
    lab.drain(run_id)


@pytest.mark.parametrize(
    ("output", "ended"),
    [([], "succeeded"), ({"a": 1}, "failed"), ("text", "failed"), (None, "failed"), (7, "failed"), ([1, 2, 3], None)],
)
def test_what_is_not_a_short_list_goes_the_general_path(
    lab: Lab, asked: list[str], monkeypatch: pytest.MonkeyPatch, output: Any, ended: str | None
) -> None:
    """Nothing is written by the statement that refuses it."""
    monkeypatch.setattr(finishes, "SHORT", 2)
    run_id, finished = opened(lab, output)
    assert [name for name in asked if name.startswith("finish")] == ["finish_open", GENERAL]
    assert lab.statuses(run_id)["each"] == (ended or "running")
    assert lab.attempts(run_id, "list") == [(1, "succeeded")]
    assert len(finished.dispatches) == (3 if ended is None else 0)
    if finished.next is not None:
        lab.done(finished.next)
    lab.drain(run_id)
    assert lab.status(run_id) is (RunStatus.FAILED if ended == "failed" else RunStatus.SUCCEEDED)


def test_a_loop_that_waits_for_others_too_is_opened_by_the_last(lab: Lab, asked: list[str]) -> None:
    other = loop("@steps('list').output", run_after={"other": ["succeeded"]})
    run_id, finished = opened(lab, [1, 2], {"list": call(), "other": call(), "each": other, "join": after("each")})
    assert GENERAL in asked
    assert finished.dispatches == ()
    assert lab.statuses(run_id)["each"] == "blocked"
    assert keys(lab.do(run_id, "other").dispatches) == ["each.0.do", "each.1.do"]
    lab.drain(run_id)


@pytest.mark.parametrize("limit", ["SHORT", "SHORT_BYTES"])
def test_a_wide_loop_and_a_large_list_are_closed_on_the_general_path(
    lab: Lab, asked: list[str], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    run_id, finished = opened(lab, [1, 2, 3])
    monkeypatch.setattr(finishes, limit, 2)
    assert finished.next is not None
    lab.done(finished.next, "x" * 10)
    lab.do(run_id, "each.2.do", "each.1.do", output="y" * 10)
    assert asked[-1] != "finish_last"
    assert "finish_last" in asked
    assert reads.steps.output(lab.ledger, run_id, "each") == ["x" * 10, "y" * 10, "y" * 10]
    lab.drain(run_id)


def test_a_loop_with_a_failed_child_fails(lab: Lab, asked: list[str]) -> None:
    run_id, finished = opened(lab, [1, 2])
    assert finished.next is not None
    lab.fail(finished.next, retryable=False)
    lab.do(run_id, "each.1.do")
    assert lab.statuses(run_id)["each"] == "failed"
    assert lab.statuses(run_id)["join"] == "skipped"


def test_what_a_lost_answer_had_led_to_is_read_again(lab: Lab) -> None:
    """The first child was claimed by the same commit, the others were dispatched by it."""
    run_id = lab.run(FAN)
    lease = lab.take(run_id, "list")
    lab.done(lease, [1, 2, 3], chain=True)
    found = finish_step.settled(lab.ledger, lease)
    assert found is not None
    assert found.next is not None
    assert found.next.step_key == "each.0.do"
    assert sorted(keys(found.dispatches)) == ["each.1.do", "each.2.do"]
    lab.done(found.next, 1)
    last = [lab.take(run_id, key) for key in ("each.1.do", "each.2.do")]
    for lease in last:
        lab.done(lease, 1, chain=True)
    found = finish_step.settled(lab.ledger, last[-1])
    assert found is not None
    assert found.next is not None
    assert found.next.step_key == "join"
    lab.done(found.next)
