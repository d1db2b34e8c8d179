"""The manifest: JSON round trip, a stable hash, and every problem named with its place."""

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.manifest import Manifest, Problem, Retry, StepDef
from orchestrator.core.states import StepStatus
from orchestrator.errors import ManifestInvalid, UsageError

S = StepStatus.SUCCEEDED


def nested(keys: Sequence[str]) -> dict[str, object]:
    """Loops inside of each other."""
    inner = {keys[0]: nested(keys[1:])} if keys else {"work": {"type": "t"}}
    return {"for_each": [1], "steps": inner}


GOOD = {
    "name": "orders",
    "version": "3",
    "deadline": "1h",
    "tags": ["nightly"],
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False},
    "steps": {
        "load": {"type": "load", "inputs": {"n": "@triggerBody().n", "none": None}, "retry": {"max_attempts": 3}},
        "price": {
            "for_each": "@steps('load').output.lines",
            "concurrency": 5,
            "steps": {"one": {"type": "price", "inputs": {"line": "@item()", "all": "@steps('load').output"}}},
        },
        "save": {"type": "save", "inputs": {"total": ["@steps('price').output[0]"]}, "run_after": {"note": ["failed"]}},
        "note": {"type": "note", "run_after": {"load": "succeeded"}},
    },
    "output": {"order": "@steps('load').output.id"},
}


def good() -> Manifest:
    return Manifest(**copy.deepcopy(GOOD))


def problems_of(**changes) -> list[Problem]:
    with pytest.raises(ManifestInvalid) as caught:
        Manifest(**{"name": "f", "steps": {}, **changes})
    assert caught.value.exit_code == 2
    return caught.value.problems


def texts(**changes) -> list[str]:
    return [str(problem) for problem in problems_of(**changes)]


def test_json_round_trip_keeps_everything():
    manifest = good()
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert again.hash == manifest.hash
    assert again.to_json() == manifest.to_json()
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    assert again.steps["load"].inputs["none"] is None  # a given null is not an absent input
    assert "none" in again.steps["load"].inputs


def test_references_imply_run_after_succeeded():
    steps = good().steps
    assert steps["price"].run_after == {"load": (S,)}  # also what the loop's body reads
    assert steps["save"].run_after == {"note": (StepStatus.FAILED,), "price": (S,)}
    assert steps["price"].steps["one"].run_after == {}


def test_a_given_run_after_is_kept_beside_a_reference():
    steps = {
        "a": {"type": "t"},
        "b": {"type": "t", "inputs": {"x": "@steps('a').output"}, "run_after": {"a": ["failed"]}},
    }
    assert Manifest(name="f", steps=steps).steps["b"].run_after == {"a": (StepStatus.FAILED,)}


def _shuffled(value):
    if isinstance(value, dict):
        return {key: _shuffled(value[key]) for key in reversed(value)}
    return [_shuffled(item) for item in value] if isinstance(value, list) else value


def test_the_hash_does_not_depend_on_the_order_of_keys_or_on_spelt_out_defaults():
    assert Manifest(**_shuffled(GOOD)).hash == good().hash
    spelt = {**GOOD, "queue": "default", "triggers": {"manual": {"type": "manual"}}, "idempotency_ttl": "P1D"}
    assert Manifest(**spelt).hash == good().hash
    assert Manifest(**{**GOOD, "deadline": 3600}).hash == good().hash


@pytest.mark.parametrize(
    "change",
    [{"version": "4"}, {"output": None}, {"tags": []}, {"steps": {**GOOD["steps"], "x": {"type": "x"}}}],  # type: ignore[dict-item]
)
def test_the_hash_changes_with_the_content(change):
    assert Manifest(**{**GOOD, **change}).hash != good().hash


def test_the_hash_is_the_same_in_another_process():
    code = (
        "import sys; from orchestrator.core.manifest import Manifest; print(Manifest.from_json(sys.stdin.read()).hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(GOOD), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == good().hash


def test_a_copy_is_checked_and_has_its_own_hash():
    manifest = good()
    other = manifest.model_copy(update={"version": "9"})
    assert manifest.hash != other.hash
    assert manifest.model_copy(update={"version": "9"}).hash == other.hash  # also when its own was asked before
    with pytest.raises(ManifestInvalid):
        manifest.model_copy(update={"output": "@steps('nope').output"})


def test_it_is_frozen_and_durations_are_timedeltas():
    manifest = good()
    assert manifest.deadline == timedelta(hours=1)
    assert manifest.idempotency_ttl == timedelta(days=1)
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "x"  # type: ignore[misc]


def test_it_has_a_json_schema():
    schema = Manifest.model_json_schema()
    assert {"name", "steps", "output", "input_schema"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False
    assert "StepDef" in schema["$defs"]


def test_a_manifest_may_be_made_of_parts():
    manifest = Manifest(name="f", steps={"a": StepDef(type="t", retry=Retry(max_attempts=2))})
    assert manifest.problems() == []
    assert manifest.problems(["t"]) == []
    assert [str(p) for p in manifest.problems(["tt"])] == ["steps.a.type: unknown type `t` (did you mean `tt`?)"]


# ---- problems ----


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"a b": {"type": "t"}}, "steps.a b: a key has 1 to 100 letters, digits, `_` or `-` (did you mean `a_b`?)"),
        ({"x" * 101: {"type": "t"}}, "a key has 1 to 100"),
        ({"": {"type": "t"}}, "a key has 1 to 100"),
        ({"a": {}}, "steps.a.type: a step needs a `type`"),
        ({"a": {"type": "t", "tmeout": 3}}, "steps.a.tmeout: unknown field `tmeout` (did you mean `timeout`?)"),
        ({"a": {"type": "t", "timeout": "abc"}}, "steps.a.timeout: 'abc' is not a length of time"),
        ({"a": {"type": "t", "timeout": "0s"}}, "steps.a.timeout: Input should be greater than"),
        ({"a": {"type": "t", "priority": 10}}, "steps.a.priority: Input should be less than or equal to 9, got 10"),
        ({"a": {"type": "t", "queue": "a b"}}, "steps.a.queue: "),
        ({"a": {"type": "t", "retry": {"max_attempts": 0}}}, "steps.a.retry.max_attempts: "),
        ({"a": {"type": "t", "retry": {"backof": "1s..2s"}}}, "(did you mean `backoff`?)"),
        ({"a": {"type": "t", "retry": {"backoff": {"frist": "1s"}}}}, "(did you mean `first`?)"),
        ({"a": {"type": "t", "retry": {"backoff": []}}}, "the list of pauses is empty"),
        ({"a": {"type": "t", "run_after": {"a": ["succeeded"]}}}, "steps.a: the step waits for itself"),
        ({"a": {"type": "t", "run_after": {"bb": ["succeeded"]}}}, "steps.a.run_after.bb: unknown step `bb`"),
        ({"a": {"type": "t", "inputs": {"x": ["@steps('aa').output"]}}}, "steps.a.inputs.x[0]: unknown step `aa`"),
        ({"a": {"type": "t", "inputs": {"x": "@item()"}}}, "steps.a.inputs.x: `@item()` is known inside a loop only"),
        ({"a": {"type": "t", "inputs": {"x": {"y": "@index()"}}}}, "steps.a.inputs.x.y: `@index()` is known inside"),
        ({"a": {"type": "t", "inputs": {"x": "@stps('a')"}}}, "unknown function `stps` in `@stps('a')`"),
        ({"a": {"type": "t", "inputs": {"x": float("nan")}}}, "steps.a.inputs.x"),
        ({"a": {"type": "t"}, "b": {"type": "t", "run_after": {"a": ["done"]}}}, "steps.b.run_after.a[0]: "),
        (
            {"a": {"type": "t"}, "b": {"type": "t", "run_after": {"a": ["running", "succeeded"]}}},
            "steps.b.run_after.a: status `running` is not supported (use succeeded, failed or skipped)",
        ),
        ({"a": {"type": "t", "concurrency": 3}}, "steps.a.concurrency: only a loop has `concurrency`"),
        ({"l": {"for_each": [1], "concurrency": 0, "steps": {"a": {"type": "t"}}}}, "steps.l.concurrency: "),
        ({"l": {"for_each": [1]}}, "steps.l.steps: a loop needs at least one step"),
        (
            {"l": {"for_each": [1], "steps": {"a": {"type": "t"}, "b": {"type": "t", "run_after": {"c": []}}}}},
            "steps.l.steps.b.run_after.c: unknown step `c`",
        ),
        (
            {"a": {"type": "t"}, "l": {"for_each": [1], "steps": {"a": {"type": "t"}, "b": {"type": "t"}}}},
            "steps.l.steps.a: hides the step `a` outside of the loop",
        ),
        (
            {"l": {"for_each": [1], "steps": {"a": {"type": "t", "inputs": {"x": "@item('m')"}}, "b": {"type": "t"}}}},
            "steps.l.steps.a.inputs.x: `m` is not a loop around this",
        ),
        (
            {"l": {"for_each": [1], "steps": {"a": {"type": "t"}}, "output": "@steps('b').output"}},
            "steps.l.output: unknown step `b`",
        ),
        (
            {
                "l": {
                    "for_each": [1],
                    "steps": {
                        "a": {"type": "t", "inputs": {"x": "@steps('b').output"}},
                        "b": {"type": "t", "inputs": {"x": "@steps('a').output"}},
                    },
                }
            },
            "steps.l.steps.a: cycle: a -> b -> a",
        ),
        (
            {
                "l": {"for_each": [1], "steps": {"a": {"type": "t"}, "b": {"type": "t"}}},
                "z": {"type": "t", "inputs": {"x": "@steps('a').output"}},
            },
            "steps.z.inputs.x: unknown step `a`",
        ),
        (
            {"l": {"for_each": [1], "steps": {"a": {"signal": {"name": "x"}}, "b": {"type": "t"}}}},
            "steps.l.steps.a.signal.key: every item of loop `l` waits for the same signal `x`",
        ),
        ({"l": {"steps": {"a": {"type": "t"}}}}, "steps.l: a loop needs `for_each`"),
        ({"l": {"for_each": "abc", "steps": {"a": {"type": "t"}}}}, "steps.l.for_each: neither a list nor"),
        ({"l": {"for_each": {"a": "@item()"}, "steps": {"a": {"type": "t"}}}}, "steps.l.for_each: neither a list nor"),
        ({"l": {"for_each": ["@item()"], "steps": {"a": {"type": "t"}}}}, "steps.l.for_each[0]: `@item()` is known"),
        ({"l": {"for_each": [1], "type": "t", "steps": {"a": {"type": "t"}}}}, "steps.l.type: a loop has no `type`"),
        ({"l": {"for_each": [1], "steps": {"a b": {"type": "t"}}}}, "steps.l.steps.a b: a key has"),
        ({"l": {"for_each": [1], "steps": {"a": {}}}}, "steps.l.steps.a.type: a step needs a `type`"),
        ({"l": {"for_each": [1], "steps": {"a": {"typ": "t"}}}}, "(did you mean `type`?)"),
        (
            {"a": nested("bcdef")},
            "steps.a.steps.b.steps.c.steps.d.steps.e.steps.f: more than 5 loops stand inside each other",
        ),
        (
            {"a" * 100: nested(["b" * 100, "c" * 100, "d" * 100, "e" * 55])},
            f"{'e' * 55}.steps.work: its key may have 504 characters, with those of the loops around it; at most 500",
        ),
        (
            {"l": {"for_each": [1], "steps": {"a": {"type": "t", "inputs": {"x": "@steps('q').output"}}}}},
            "steps.l.steps.a.inputs.x: unknown step `q`",
        ),
        (
            {"l": {"for_each": [1], "steps": {"a": {"type": "t", "run_after": {"l": ["succeeded"]}}}}},
            "steps.l.steps.a.run_after: the only step of a loop has nothing to wait for",
        ),
        ({"a": 3}, "steps.a: Input should be"),
    ],
)
def test_a_problem_names_its_place_and_the_way_out(steps, expected):
    assert any(expected in text for text in texts(steps=steps)), texts(steps=steps)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "a b"}, "name: "),
        ({"deadlin": "1h"}, "deadlin: unknown field `deadlin` (did you mean `deadline`?)"),
        ({"deadline": -1}, "deadline: -1 is not a length of time"),
        (
            {"triggers": {"t": {"type": "crom"}}},
            "triggers.t.type: unknown type of trigger `crom` (did you mean `cron`?)",
        ),
        ({"triggers": {"t": {"typ": "manual"}}}, "did you mean `type`?"),
        ({"output": {"a": ["@steps('x').output"]}}, "output.a[0]: unknown step `x`"),
        ({"output": "@item()"}, "output: `@item()` is known inside a loop only"),
        ({"steps": None}, "steps: "),
        (
            {
                "input_schema": {"properties": {"count": {}}, "additionalProperties": False},
                "output": "@triggerBody().cuont",
            },
            "output: the flow has no input `cuont` (did you mean `count`?)",
        ),
    ],
)
def test_problems_of_the_flow_itself(fields, expected):
    assert any(expected in text for text in texts(**fields)), texts(**fields)


def test_missing_fields_are_named():
    with pytest.raises(ManifestInvalid) as caught:
        Manifest()
    assert [str(p) for p in caught.value.problems] == [
        "name: this field is required",
        "steps: this field is required",
    ]


def test_every_problem_is_listed_wrong_fields_and_wrong_graph_together():
    found = texts(
        steps={
            "a": {"type": "t", "inputs": {"x": "@steps('b').output"}, "timeout": "abc"},
            "b": {"type": "t", "inputs": {"x": "@steps('a').output", "y": "@steps('aa').output"}},
            "c d": {"type": "t", "tipe": "x"},
        },
        deadlin="1h",
    )
    assert len(found) == 6
    for part in ("timeout", "did you mean `a`", "cycle: a -> b -> a", "c d: a key", "`type`", "`deadline`"):
        assert any(part in text for text in found), part


def _chain(*pairs):
    keys = dict.fromkeys(key for pair in pairs for key in pair)
    return {k: {"type": "t", "run_after": {a: ["succeeded"] for a, b in pairs if b == k}} for k in keys}


def test_each_cycle_is_named_with_its_steps_in_order():
    found = texts(steps=_chain("ab", "bc", "ca", "xy", "yx", "zz", "cx"))
    assert [text for text in found if "cycle" in text or "itself" in text] == [
        "steps.a: cycle: a -> b -> c -> a (remove one of these dependencies)",
        "steps.x: cycle: x -> y -> x (remove one of these dependencies)",
        "steps.z: the step waits for itself (remove `z` from its inputs)",
    ]


@pytest.mark.parametrize(
    ("accepted", "says"),
    [
        (["skipped"], "waits for skipped, `a` ends as failed, succeeded"),
        (["cancelled", "compensated"], "waits for cancelled, compensated"),
        ([], "waits for no status at all"),
    ],
)
def test_a_step_that_can_never_run_is_named(accepted, says):
    found = texts(
        steps={
            "a": {"type": "t"},
            "b": {"type": "t", "run_after": {"a": accepted}},
            "c": {"type": "t", "run_after": {"b": ["succeeded"]}},
        }
    )
    assert len(found) == 1
    assert found[0].startswith("steps.b.run_after.a: never runs")
    assert says in found[0]


def test_a_step_may_wait_for_a_skip_that_can_happen():
    steps = _chain("ab")
    steps["c"] = {"type": "t", "run_after": {"b": ["skipped"]}}
    assert Manifest(name="f", steps=steps).problems() == []


@pytest.mark.parametrize("bad", ["\x00", "\ud800"])
@pytest.mark.parametrize("place", ["description", "steps.a.inputs.x", "output"])
def test_text_that_the_ledger_cannot_hold_is_named(bad, place):
    fields = {"steps": {"a": {"type": "t", "inputs": {"x": bad if "x" in place else ""}}}}
    if "." not in place:
        fields[place] = bad
    (found,) = texts(**fields)
    assert found.startswith(f"{place}: a text with a ")


def test_odd_names_are_reported_not_raised():
    for odd in ("self", "data", "\ud800", "a\x00"):
        assert any("unknown field" in text or "unicode" in text for text in texts(**{odd: 1}))
        for text in texts(steps={odd + " ": {"type": "t"}}):
            text.encode()


def test_duplicate_keys_in_json_text_are_named():
    with pytest.raises(ManifestInvalid, match="the key `a` stands 2 times"):
        Manifest.from_json('{"name":"f","steps":{"a":{"type":"t"},"a":{"type":"u"}}}')


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"name":', "[" * 100_000, b"\xff"])
def test_text_that_is_no_manifest_is_refused(text):
    with pytest.raises(ManifestInvalid):
        Manifest.from_json(text)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["@item()", "@steps('a').output"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "type", "inputs", "steps", "run_after", "for_each", "retry"]), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["name", "steps", "output", "tags", "deadline", "triggers", "x"]), JSON))
def test_any_json_gives_a_manifest_or_a_usage_error(data):
    try:
        manifest = Manifest.from_json(json.dumps(data))
    except UsageError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_a_graph_is_accepted_exactly_when_it_has_no_cycle(graph):
    size, edges = graph
    steps = {
        f"s{i}": {"type": "t", "run_after": {f"s{a}": ["succeeded"] for a, b in sorted(edges) if b == i}}
        for i in range(size)
    }
    seen: set[int] = set()
    while ready := {i for i in range(size) if i not in seen and all(a in seen for a, b in edges if b == i)}:
        seen |= ready
    if len(seen) == size:
        assert Manifest(name="f", steps=steps).problems() == []
    else:
        assert all("cycle" in text or "itself" in text for text in texts(steps=steps))


def test_a_loop_collects_errors_or_stops() -> None:
    loop = {"for_each": [1], "steps": {"a": {"type": "t"}}}
    for fields in ({"errors": "collect"}, {"stop_on_failure": True}):
        made = Manifest(name="f", steps={"l": {**loop, **fields}})
        assert made.format == 2
        assert json.loads(made.to_json())["steps"]["l"] == {**loop, **fields}
        with pytest.raises(ManifestInvalid, match="only a loop has"):
            Manifest(name="f", steps={"a": {"type": "t", **fields}})
    both = {**loop, "errors": "collect", "stop_on_failure": True}
    with pytest.raises(ManifestInvalid, match=r"steps\.l\.stop_on_failure: a loop that collects errors goes on"):
        Manifest(name="f", steps={"l": both})
    assert "errors" not in Manifest(name="f", steps={"l": loop}).to_json()
