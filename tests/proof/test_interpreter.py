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


def joined(join: str, **after: list[str]) -> dict[str, Any]:
    return {**steps(**{key: {} for key in after}), "j": {"type": "work", "join": join, "run_after": after}}


@pytest.mark.parametrize(
    ("states", "goes"),
    [
        ("ss", "all any some none_failed all_done"),
        ("sf", "any some all_done"),
        ("sk", "any some none_failed all_done"),
        ("ff", "all_done"),
        ("fk", "all_done"),
        ("kk", "all_done"),
        ("sc", "any some all_done"),
    ],
)
def test_joins(states: str, goes: str) -> None:
    """The table of the rules."""
    full = {"s": "succeeded", "f": "failed", "k": "skipped", "c": "cancelled"}
    known = {name: full[state] for name, state in zip("ab", states, strict=True)}
    ends = {"a": SUCCEEDED, "b": SUCCEEDED, "j": SUCCEEDED}
    for join in ("all", "any", "some", "none_failed", "all_done"):
        found = interpret(joined(join, a=OK, b=OK), ends, {}, known=known)
        assert ("j" in found.must) is (join in goes.split()), join
        assert (found.legal["j"] == {"skipped"}) is (join not in goes.split())


def test_a_condition_runs_skips_or_fails_its_step() -> None:
    graph = {"a": {"type": "work", "when": "x"}, "b": {"type": "work", "run_after": {"a": OK}}}
    ends = {"a": SUCCEEDED, "b": SUCCEEDED}
    ways = {
        result: interpret(graph, ends, {}, format=2, conditions={"a": frozenset({result})})
        for result in ("true", "false", "error")
    }
    assert {result: way.legal["a"] for result, way in ways.items()} == {
        "true": SUCCEEDED,
        "false": {"skipped"},
        "error": FAILED,
    }
    assert [way.run for way in ways.values()] == [SUCCEEDED, SUCCEEDED, FAILED]
    assert (ways["true"].must, ways["error"].must_not) == ({"a", "b"}, {"a", "b"})
    assert ways["false"].blame == {"a": "when:", "b": "a"}
    skips = interpret(graph, ends, {}, format=2, conditions={"a": frozenset({"error"})}, when_errors="skip")
    assert (skips.legal["a"], skips.run) == ({"skipped"}, SUCCEEDED)
    assert interpret(graph, ends, {}).legal["a"] == {"succeeded", "skipped", "failed"}


def test_a_merge_gives_a_value_and_has_no_handler() -> None:
    graph = {**steps(a={}, b={}), "m": {"value": "x", "join": "none_failed", "run_after": {"a": OK, "b": OK}}}
    found = interpret(graph, {"a": SUCCEEDED, "b": SUCCEEDED}, {})
    assert (found.legal["m"], "m" in found.must_not) == (SUCCEEDED, True)


def test_what_may_lose_a_race_may_be_withdrawn() -> None:
    graph = {
        **steps(a={}, b={}, c={"b": OK}, d={}),
        "race": {"value": "x", "join": "any", "run_after": {"a": OK, "c": OK, "d": OK}},
        "other": {"type": "work", "run_after": {"d": OK}},
    }
    ends = dict.fromkeys(["a", "b", "c", "d", "other"], SUCCEEDED)
    found = interpret(graph, ends, {})
    assert {key for key, ended in found.legal.items() if "skipped" in ended} == {"a", "b", "c"}  # `d` leads elsewhere
    assert (found.must, found.may) == ({"d", "other"}, {"a", "b", "c"})
    graph["race"]["rest"] = "leave"
    assert interpret(graph, ends, {}).must == {"a", "b", "c", "d", "other"}


@pytest.mark.parametrize(
    ("graph", "ended"),
    [
        ({**steps(a={}), "b": {"type": "work", "may_fail": True}}, SUCCEEDED),
        ({**joined("some", a=OK, b=OK)}, SUCCEEDED),
        ({**joined("any", a=OK, b=OK)}, SUCCEEDED),
        ({**joined("none_failed", a=OK, b=OK)}, FAILED),
        ({**joined("all_done", a=[*EITHER, "skipped", "cancelled"], b=[*EITHER, "skipped", "cancelled"])}, FAILED),
    ],
)
def test_failures_that_something_is_content_with(graph: dict[str, Any], ended: frozenset[str]) -> None:
    found = interpret(graph, {"a": SUCCEEDED, "b": FAILED, "j": SUCCEEDED}, {}, format=2)
    assert found.run == ended


def test_who_settles_a_step_asks_nobody_before_it() -> None:
    """Those before it may lose a race that it decides; a child that was settled need not run."""
    graph = {**steps(a={}, b={"a": OK}), "race": {"run_after": {"a": OK, "b": OK}, "join": "any", "value": "1"}}
    by_hand = {"a": "skipped", "b": "succeeded", "race": "succeeded"}
    found = interpret(graph, {"a": SUCCEEDED, "b": SUCCEEDED}, {}, known=by_hand, settled={"b": "succeeded"})
    assert ("skipped" in found.legal["a"], found.must) == (True, frozenset())
    assert "skipped" not in interpret(graph, {"a": SUCCEEDED, "b": SUCCEEDED}, {}).legal["a"]
    longer = {**graph, "b": {"run_after": {}}, "c": {"run_after": {"b": OK}}}
    longer["race"] = {"run_after": {"a": OK, "c": OK}, "join": "any", "value": "1"}
    known = {"a": "succeeded", "c": "succeeded"}
    won = interpret(longer, dict.fromkeys("abc", SUCCEEDED), {}, known=known, settled={"c": "succeeded"})
    assert "skipped" in won.legal["b"], "it leads to the race, by a step that is done"
    loop = {"e": {"for_each": "@triggerBody()", "steps": {"do": {"type": "work"}}}}
    ends = {"e.0.do": SUCCEEDED, "e.1.do": SUCCEEDED}
    assert interpret(loop, ends, {"e": 2}, settled={"e.1.do": "succeeded"}).must == {"e.0.do"}
    failing, marked = {**ends, "e.1.do": FAILED}, {"e.1.do": "succeeded"}
    assert interpret(loop, failing, {"e": 2}, known=marked, settled=marked).legal["e"] == SUCCEEDED
    left_out = {"e.1.do": "skipped"}
    assert interpret(loop, failing, {"e": 2}, known=left_out, settled=left_out).legal["e"] == SUCCEEDED


def test_a_loop_that_collects_succeeds_and_one_that_stops_leaves_items_out() -> None:
    loop = {"for_each": "@triggerBody()", "steps": {"do": {"type": "work"}}}
    ends = {"e.0.do": FAILED, "e.1.do": SUCCEEDED}
    collects = interpret({"e": {**loop, "errors": "collect"}}, ends, {"e": 2})
    assert (collects.legal["e"], collects.must) == (SUCCEEDED, {"e.0.do", "e.1.do"})
    stopped = interpret({"e": {**loop, "stop_on_failure": True}}, ends, {"e": 2})
    assert (stopped.legal["e"], stopped.must, stopped.must_not) == (FAILED, set(), set())
    assert stopped.legal["e.1.do"] == {"succeeded", "skipped", "failed"}
    assert stopped.blame["e.1.do"] == "the loop stopped:"
    fine = interpret({"e": {**loop, "stop_on_failure": True}}, {**ends, "e.0.do": SUCCEEDED}, {"e": 2})
    assert (fine.legal["e"], fine.must) == (SUCCEEDED, {"e.0.do", "e.1.do"})


def test_items_with_a_graph_end_as_runs_do() -> None:
    body = {"do": {"type": "work", "run_after": {}}, "then": {"type": "work", "run_after": {"do": OK}}}
    loop = {"for_each": "@triggerBody()", "steps": body, "output": "@steps('then').output"}
    ends = {"e.0.do": FAILED, "e.0.then": SUCCEEDED, "e.1.do": SUCCEEDED, "e.1.then": SUCCEEDED}
    found = interpret({"e": loop}, ends, {"e": 2}, format=2)
    assert (found.legal["e"], found.legal["e.0"], found.legal["e.1"]) == (FAILED, FAILED, SUCCEEDED)
    assert (found.legal["e.0.then"], found.blame["e.0.then"]) == (frozenset({"skipped"}), "e.0.do")
    assert found.must == {"e.0.do", "e.1.do", "e.1.then"}
    collects = interpret({"e": {**loop, "errors": "collect"}}, ends, {"e": 2}, format=2)
    assert (collects.legal["e"], collects.run) == (SUCCEEDED, SUCCEEDED)
    stopped = interpret({"e": {**loop, "stop_on_failure": True}}, ends, {"e": 2}, format=2)
    assert (stopped.must, stopped.legal["e.1"]) == (set(), {"succeeded", "failed", "skipped"})
    assert "skipped" in stopped.legal["e.1.do"]
    assert stopped.stopped >= {"e.0.do", "e.0.then", "e.1.do", "e.1.then"}
    known = {"e.0.do": "skipped", "e.0.then": "skipped"}
    left_out = interpret({"e": loop}, ends, {"e": 2}, format=2, known=known, settled={"e.0.do": "skipped"})
    assert "skipped" in left_out.legal["e.0"]


def test_what_is_inside_of_an_item_is_asked_as_in_a_run() -> None:
    """Conditions, and loops in it, by the keys of the run."""
    inner = {"type": "work"}
    body = {
        "yes": {**inner, "when": "@item().flags.yes"},
        "no": {**inner, "when": "@item().flags.no", "run_after": {"yes": ["succeeded"]}},
        "after": {**inner, "run_after": {"no": ["succeeded"]}},
        "in": {"for_each": "@item().in", "steps": {"do": inner}, "run_after": {"yes": ["succeeded"]}},
    }
    keys = ["e.0.yes", "e.0.no", "e.0.after", "e.0.in.0.do", "e.0.in.1.do"]
    ends = {**dict.fromkeys(keys, SUCCEEDED), "e.0.in.1.do": FAILED}
    asked = {"e.0.yes": frozenset({"true"}), "e.0.no": frozenset({"false"})}
    found = interpret({"e": {"steps": body}}, ends, {"e": 1, "e.0.in": 2}, format=2, conditions=asked)
    assert found.must == {"e.0.yes", "e.0.in.0.do", "e.0.in.1.do"}
    assert {key for key, legal in found.legal.items() if legal == FAILED} == {"e", "e.0", "e.0.in", "e.0.in.1.do"}
    assert (found.blame["e.0.no"], found.blame["e.0.after"], found.run) == ("when:", "e.0.no", FAILED)
    left_out = {**asked, "e.0.yes": frozenset({"false"})}
    deep = {"d": {"steps": {"e": {"steps": body}}}}
    inside = interpret(
        deep,
        {f"d.0.{key}": end for key, end in ends.items()},
        {"d": 1, "d.0.e": 1, "d.0.e.0.in": 2},
        format=2,
        conditions={f"d.0.{key}": said for key, said in left_out.items()},
    )
    assert inside.blame["d.0.e.0.in"] == "d.0.e.0.yes", "as the run names it"
    none = {**asked, "e.0.yes": frozenset({"false"})}
    skipped = interpret({"e": {"steps": body}}, ends, {"e": 1, "e.0.in": 2}, format=2, conditions=none)
    assert (skipped.legal["e.0"], skipped.legal["e"]) == (SUCCEEDED | {"skipped"}, SUCCEEDED)


def test_a_race_that_another_one_decided_has_not_waited_for_all() -> None:
    """`q` is decided by `a`: what has not begun leads to nothing, though it stands before `q`."""
    graph = {
        **steps(a={}, nap={"a": OK}, b={"nap": OK}, c={"q": OK, "b": OK}),
        "q": {"run_after": {"a": OK, "b": OK}, "join": "any", "value": "1"},
        "r": {"run_after": {"b": OK, "q": OK, "c": OK}, "join": "any", "value": "1"},
    }
    known = {"a": "succeeded", "q": "succeeded", "r": "succeeded", **dict.fromkeys(("nap", "b", "c"), "skipped")}
    found = interpret(graph, dict.fromkeys(graph, SUCCEEDED), {}, known=known, format=2)
    assert found.withdrawn >= {"nap", "b", "c"}
    assert "a" not in found.withdrawn


def test_an_item_of_which_nothing_is_done_says_so() -> None:
    body = {"do": {"type": "work"}, "then": {"type": "work", "run_after": {"do": OK}}}
    loop = {"for_each": "@triggerBody()", "steps": body, "stop_on_failure": True}
    ends = {f"e.{n}.{key}": SUCCEEDED if n else FAILED for n in range(3) for key in body}
    by_hand = {"e.1.do": "skipped"}
    known = {"e.0.do": "failed", "e.0.then": "skipped", "e.1.then": "skipped", **by_hand}
    found = interpret({"e": loop}, ends, {"e": 3}, format=2, known=known, settled=by_hand)
    assert (found.blame["e.1"], found.blame["e.2"]) == ("all of its steps were", "the loop stopped:")


def test_what_a_loop_in_an_item_skips_is_told_by_the_keys_of_the_run() -> None:
    """However deep; and an error in a condition is what the manifest says, there too."""
    inner = {"a": {"type": "work"}, "b": {"type": "work", "run_after": {"a": OK}}}
    body = {"m": {"for_each": "@item().m", "steps": inner}, "x": {"type": "work", "when": "@item().flags.x"}}
    ends = {"e.0.m.0.a": FAILED, "e.0.m.0.b": SUCCEEDED, "e.0.x": SUCCEEDED}
    facts: dict[str, Any] = {"format": 2, "conditions": {"e.0.x": frozenset({"error"})}}
    found = interpret({"e": {"steps": body}}, ends, {"e": 1, "e.0.m": 1}, **facts)
    assert (found.blame["e.0.m.0.b"], found.legal["e.0.x"]) == ("e.0.m.0.a", FAILED)
    skips = interpret({"e": {"steps": body}}, ends, {"e": 1, "e.0.m": 1}, when_errors="skip", **facts)
    assert skips.legal["e.0.x"] == {"skipped"}


def test_items_under_way_may_be_ended_when_their_loop_stops() -> None:
    body = {"nap": {"sleep": "PT1H"}, "do": {"type": "work", "run_after": {"nap": OK}}}
    loop = {"for_each": "@triggerBody()", "steps": body}
    ends = {"e.0.do": FAILED, "e.1.do": SUCCEEDED}
    stops = interpret({"e": {**loop, "stop_on_failure": True}}, ends, {"e": 2}, format=2)
    assert {"e.1", "e.1.nap", "e.1.do"} <= stops.stopped
    assert all("skipped" in stops.legal[key] for key in ("e.1", "e.1.nap", "e.1.do"))
    goes_on = interpret({"e": loop}, ends, {"e": 2}, format=2)
    assert (goes_on.stopped, goes_on.legal["e.1.nap"]) == (frozenset(), SUCCEEDED)


def test_a_loop_that_an_operator_left_out_asks_nothing_of_its_items() -> None:
    body = {"ask": {"approval": {"title": "May it?"}}, "do": {"type": "work", "run_after": {"ask": OK}}}
    by_hand = {"e": "skipped"}
    facts: dict[str, Any] = {"format": 2, "known": by_hand, "settled": by_hand}
    found = interpret({"e": {"for_each": "@triggerBody()", "steps": body}}, {"e.0.do": FAILED}, {"e": 1}, **facts)
    assert (found.legal["e"], found.must, found.run) == ({"skipped"}, frozenset(), SUCCEEDED)
