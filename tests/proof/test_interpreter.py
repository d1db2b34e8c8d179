"""The rules of a flow, as the interpreter knows them."""

from typing import Any

import pytest

from tests.proof.interpreter import EITHER, FAILED, SUCCEEDED, end_of, interpret


def steps(**after: dict[str, list[str]]) -> dict[str, Any]:
    return {key: {"type": "work", "run_after": before} for key, before in after.items()}


OK = ["succeeded"]


def test_a_failure_skips_what_needs_it_and_runs_what_asks_for_it() -> None:
    """And what asks for it keeps the run from failing."""
    graph = steps(a={}, b={"a": OK}, alarm={"a": ["failed"]})
    found = interpret(graph, {"a": FAILED, "b": SUCCEEDED, "alarm": SUCCEEDED}, {})
    assert (set(found.must), set(found.must_not), found.run) == ({"a", "alarm"}, {"b"}, SUCCEEDED)
    assert found.legal["b"] == {"skipped"}
    assert found.blame == {"b": "a"}


def test_a_skipped_handler_does_not_take_up_a_failure() -> None:
    """It asked for two things, and got one."""
    graph = steps(a={}, b={}, alarm={"a": ["failed"], "b": ["failed"]})
    found = interpret(graph, {"a": FAILED, "b": SUCCEEDED, "alarm": SUCCEEDED}, {})
    assert (set(found.legal["alarm"]), found.run) == ({"skipped"}, FAILED)


def test_what_takes_any_end_took_up_a_failure_in_the_first_format_only() -> None:
    """In the second, `always` hides nothing."""
    graph = steps(a={}, audit={"a": ["failed", "succeeded"]})
    ends = {"a": FAILED, "audit": SUCCEEDED}
    assert [interpret(graph, ends, {}, format=one).run for one in (1, 2)] == [SUCCEEDED, FAILED]


def test_what_may_fail_leaves_both_open_until_it_is_known() -> None:
    """Then everything after it is certain."""
    graph = steps(a={}, b={"a": OK})
    ends = {"a": EITHER, "b": SUCCEEDED}
    open_ = interpret(graph, ends, {})
    assert (set(open_.legal["b"]), set(open_.may), open_.run) == ({"succeeded", "skipped"}, {"b"}, EITHER)
    known = interpret(graph, ends, {}, known={"a": "failed", "b": "skipped"})
    assert (set(known.legal["b"]), set(known.must_not), known.run) == ({"skipped"}, {"b"}, FAILED)


@pytest.mark.parametrize(("count", "ended"), [(0, SUCCEEDED), (2, FAILED), (None, FAILED)])
def test_a_loop_ends_as_its_children_do(count: int | None, ended: frozenset[str]) -> None:
    """Over no items it succeeds, over no list it fails."""
    graph = {"l": {"for_each": "@triggerBody().l", "steps": {"do": {"type": "work"}}}}
    found = interpret(graph, {"l.0.do": SUCCEEDED, "l.1.do": FAILED}, {"l": count})
    assert found.legal["l"] == ended


def test_a_halt_may_cancel_everything() -> None:
    """And then nothing must run."""
    found = interpret(steps(a={}), {"a": SUCCEEDED}, {}, halted=True)
    assert (set(found.legal["a"]), set(found.must)) == ({"succeeded", "cancelled"}, set())
    assert found.run == {"succeeded", "cancelled", "timed_out"}


@pytest.mark.parametrize(
    ("fate", "step", "ends"),
    [
        ({}, {}, SUCCEEDED),
        ({"x": True}, {}, FAILED),
        ({"f": 1}, {"retry": {"max_attempts": 2}}, SUCCEEDED),
        ({"f": 2}, {"retry": {"max_attempts": 2}}, EITHER),
        ({"f": 1_000_000}, {"retry": {"max_attempts": 2}}, FAILED),
        ({}, {"timeout": "PT1S"}, EITHER),
    ],
)
def test_fates(fate: dict[str, Any], step: dict[str, Any], ends: frozenset[str]) -> None:
    """A lost attempt counts on, so a step can get past its failing ones; a timeout can strike anybody."""
    assert end_of(fate, step) == ends


def test_a_cycle_is_refused() -> None:
    """Instead of being walked for ever."""
    with pytest.raises(ValueError, match="cycle"):
        interpret(steps(a={"b": OK}, b={"a": OK}), {"a": SUCCEEDED, "b": SUCCEEDED}, {})
