"""Conditions, joins, merges and requirements in a manifest: what is written, and every problem with place and fix."""

from typing import Any

import pytest

from orchestrator.core.expressions import parse_bare
from orchestrator.core.expressions.types import kind, misfits
from orchestrator.core.gates import Join
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.plan import Plan
from orchestrator.core.states import StepKind, StepStatus
from orchestrator.errors import ManifestInvalid

WORK = {"type": "work"}
S, F, K, C = StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED


def manifest(steps: dict[str, Any], **fields: Any) -> Manifest:
    return Manifest(**{"name": "f", "steps": {"a": WORK, "b": WORK, **steps}, **fields})


def texts(steps: dict[str, Any], **fields: Any) -> list[str]:
    with pytest.raises(ManifestInvalid) as caught:
        manifest(steps, **fields)
    return [str(problem) for problem in caught.value.problems]


def both(**fields: Any) -> dict[str, Any]:
    return {"type": "work", "run_after": {"a": ["succeeded"], "b": ["succeeded"]}, **fields}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"type": "t"}, StepKind.TASK),
        ({"for_each": [1], "steps": {"x": WORK}}, StepKind.LOOP),
        ({"value": "@steps('a').output"}, StepKind.MERGE),
        ({"require": "@steps('a').output > 1"}, StepKind.REQUIRE),
    ],
)
def test_a_step_is_what_it_has(fields: dict[str, Any], what: StepKind) -> None:
    assert StepDef(**fields).kind is what


def test_what_is_written_is_read_back() -> None:
    steps = {
        "c": both(join="some", when="@triggerBody().big", may_fail=True),
        "d": {"value": "@steps('a').output ?? @steps('b').output", "join": "any", "rest": "leave"},
        "e": {"require": "number(@steps('d').output) > 0", "message": "nothing is left"},
    }
    made = manifest(steps, when_errors="skip")
    again = Manifest.from_json(made.to_json())
    assert (again, again.hash) == (made, made.hash)
    assert again.steps["c"].join is Join.SOME
    assert Plan.of(again).nodes["d"].kind is StepKind.MERGE


def test_defaults_are_not_written() -> None:
    """So manifests of before have the hash that they had."""
    made = manifest({"c": both(join="all", may_fail=False, rest="withdraw")}, when_errors="fail")
    assert not {"join", "may_fail", "rest", "when_errors", "when"} & set(made.to_json().split('"'))
    assert made.format == 1


@pytest.mark.parametrize(
    "fields",
    [{"when": "@triggerBody().x"}, {"join": "any"}, {"may_fail": True}, {"join": "all_done", "run_after": {"a": []}}],
)
def test_each_of_them_makes_it_format_two(fields: dict[str, Any]) -> None:
    assert manifest({"c": both(**fields)}).format == 2


def test_how_errors_of_conditions_are_taken_makes_it_format_two() -> None:
    assert manifest({}, when_errors="skip").format == 2
    assert manifest({"c": {"value": "@steps('a').output"}}).format == 2
    assert manifest({"c": {"require": "@steps('a').output", "message": "no"}}).format == 2


def test_a_format_can_be_asked_for() -> None:
    """Where the edges alone do not say by which rules they are meant."""
    edges = {"c": both(run_after={"a": ["failed", "succeeded"]})}
    assert manifest(edges).format == 1
    made = manifest(edges, format=2)
    assert (made.format, Manifest.from_json(made.to_json())) == (2, made)
    assert made.model_copy(update={"version": "2"}).format == 2
    assert manifest(edges, format=1).hash == manifest(edges).hash != made.hash
    with pytest.raises(ManifestInvalid, match="format: Input should be 1 or 2, got 3"):
        manifest(edges, format=3)
    with pytest.raises(ManifestInvalid, match="did you mean `format`"):
        manifest(edges, formt=2)


def test_true_and_false_of_json_are_conditions() -> None:
    made = manifest({"c": both(when=True), "d": {"require": False, "message": "never", "run_after": {"a": S}}})
    assert (made.steps["c"].when, made.steps["d"].require) == ("true", "false")


def test_a_long_condition_is_not_repeated_whole() -> None:
    with pytest.raises(ManifestInvalid, match="characters, and 1000 are allowed in `@steps") as caught:
        manifest({"c": both(when=" || ".join(f"@steps('a').output == {n}" for n in range(300)))})
    assert len(caught.value.message) < 500


def test_what_a_condition_reads_comes_before_it() -> None:
    steps = manifest(
        {
            "c": {"type": "work", "when": "@steps('a').output > 1 && @steps('b').status == 'failed'"},
            "d": {"value": "@steps('a').output ?? @steps('b').output", "join": "none_failed"},
        }
    ).steps
    assert steps["c"].run_after == {"a": (S,), "b": (C, F, K, S)}
    assert steps["d"].run_after == {"a": (S,), "b": (S,)}


def test_an_edge_of_all_done_takes_any_end() -> None:
    done = {"type": "work", "join": "all_done", "run_after": {"a": []}, "inputs": {"x": "@steps('b').output"}}
    made = manifest({"c": done})
    assert made.steps["c"].run_after == {"a": (C, F, K, S), "b": (C, F, K, S)}
    assert Manifest.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"c": both(when="@steps('a').output >")}, "steps.c.when: the text ends where a reference"),
        ({"c": both(when="")}, "steps.c.when: the text ends"),
        ({"c": both(when="@steps('aa').output")}, "steps.c.when: unknown step `aa` (did you mean `a`?)"),
        ({"c": both(when="length(@steps('a').output)")}, "steps.c.when: gives a number, neither true nor false"),
        ({"c": both(when="'yes'")}, "steps.c.when: gives a string, neither true nor false"),
        ({"c": both(when="@steps('a').status")}, "steps.c.when: gives a string, neither true nor false"),
        ({"c": both(when=3)}, "steps.c.when: Input should be a valid string"),
        ({"c": both(when="@steps('a').status == 3")}, "compares a string with a number (convert one of them"),
        ({"c": both(when="@steps('a').status == 'fialed'")}, "or succeeded, never as 'fialed' (convert one of them"),
        ({"c": both(when="@triggerBody().x || 'Failed' != @steps('a').status")}, "never as 'Failed'"),
        ({"c": both(when="length(@steps('a').output) && true")}, "is a number, neither true nor false"),
        ({"c": both(when="!lower(@steps('a').output)")}, "is a string, neither true nor false"),
        ({"c": both(when="null < @steps('a').output")}, "null has no order"),
        ({"c": both(when="true < (@steps('a').output == 1)")}, "a bool has no order"),
        ({"c": both(when="@item() == 1")}, "steps.c.when: `@item()` is known inside a loop only"),
        ({"c": both(when="@steps('c').output == 1")}, "steps.c: the step waits for itself"),
        (
            {"c": both(when="@triggerHeaders()['X-Api-Key'] == 'x'")},
            "steps.c.when: the header `X-Api-Key` is never",
        ),
        ({"c": both(join="most")}, "steps.c.join: Input should be 'all', 'any'"),
        (
            {"c": {"type": "work", "join": "any"}},
            "steps.c.join: joins by `any` and waits for nothing",
        ),
        (
            {"c": both(join="all_done")},
            "steps.c.run_after.a: `all_done` takes any end, and this names some (give it `[]`",
        ),
        ({"c": both(rest="leave")}, "steps.c.rest: only a merge has `rest`"),
        ({"c": {"value": "@steps('a').output", "rest": "leave"}}, "steps.c.rest: there is a rest only where the first"),
        ({"c": {"value": "@steps('a').output", "type": "t"}}, "steps.c.type: a merge has no `type` (leave it out: no"),
        ({"c": {"value": "@steps('a').output", "inputs": {"x": 1}}}, "steps.c.inputs: a merge has no `inputs`"),
        ({"c": {"value": "@steps('a').output", "retry": {"max_attempts": 2}}}, "steps.c.retry: a merge has no `retry`"),
        ({"c": {"value": "@steps('a').output", "join": "some"}}, "steps.c.join: a merge does not join by `some`"),
        ({"c": {"value": "@triggerBody().x"}}, "steps.c.value: a merge reads the output of a step"),
        ({"c": {"value": "@steps('a').output ??"}}, "steps.c.value: the text ends"),
        ({"c": {"require": "@steps('a').output > 1"}}, "steps.c.message: a requirement needs a `message`"),
        ({"c": {"require": "'x'", "message": "no"}}, "steps.c.require: gives a string"),
        (
            {"c": {"require": "true", "message": "no", "timeout": "1s"}},
            "steps.c.timeout: a requirement has no `timeout`",
        ),
        ({"c": {"require": "true", "message": "no", "value": "@steps('a').output"}}, "steps.c.require: a merge has no"),
        ({"c": both(message="no")}, "steps.c.message: only a requirement has `message`"),
        ({"c": {"for_each": [1], "steps": {"x": WORK}, "value": "1"}}, "steps.c.value: a loop has no `value`"),
        (
            {"c": {"for_each": [1], "steps": {"x": {**WORK, "when": "@steps('y').output"}}}},
            "steps.c.steps.x.when: unknown step `y`",
        ),
        (
            {"c": {"for_each": [1], "steps": {"x": {**WORK, "join": "any"}}}},
            "steps.c.steps.x.join: joins by `any` and waits",
        ),
        (
            {"c": {"for_each": [1], "steps": {"x": {"value": "@item()"}}}},
            "steps.c.steps.x.value: a merge reads the output",
        ),
    ],
)
def test_a_problem_names_its_place_and_the_way_out(steps: dict[str, Any], expected: str) -> None:
    assert any(expected in text for text in texts(steps)), texts(steps)


def test_the_policy_of_errors_is_one_of_two() -> None:
    assert any(text.startswith("when_errors: Input should be 'fail' or 'skip'") for text in texts({}, when_errors="x"))


@pytest.mark.parametrize("join", ["any", "some"])
def test_one_predecessor_is_enough_for_a_race(join: str) -> None:
    assert manifest({"c": {"type": "work", "join": join, "run_after": {"a": "succeeded"}}}).problems() == []


IF = {**WORK, "when": "@triggerBody().x"}


@pytest.mark.parametrize(
    ("steps", "runs"),
    [
        ({"c": {**WORK, "run_after": {"a": "skipped"}}}, False),  # nothing skips it
        ({"i": IF, "c": {**WORK, "run_after": {"i": "skipped"}}}, True),
        ({"c": both(join="any", run_after={"a": "skipped", "b": "succeeded"})}, True),
        ({"c": both(join="some", run_after={"a": "skipped", "b": "skipped"})}, False),
        ({"c": both(join="none_failed", run_after={"a": "skipped", "b": "succeeded"})}, False),  # `a` is never skipped
        ({"i": IF, "c": both(join="none_failed", run_after={"i": "cancelled", "b": "succeeded"})}, True),
        ({"c": both(join="all_done", run_after={}), "d": {**WORK, "run_after": {"c": "skipped"}}}, False),
        ({"c": both(join="any"), "d": {**WORK, "run_after": {"c": "skipped"}}}, True),
    ],
)
def test_a_step_that_can_never_run_is_named_under_every_join(steps: dict[str, Any], runs: bool) -> None:
    if "c" in steps and steps["c"].get("join") == "all_done":
        steps = {**steps, "c": {**WORK, "join": "all_done", "run_after": {"a": [], "b": []}}}
    if runs:
        assert manifest(steps).problems() == []
    else:
        assert all("never runs" in text for text in texts(steps))


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("@steps('a').output == 1", "bool"),
        ("!@steps('a').output", "bool"),
        ("true && false", "bool"),
        ("contains(@steps('a').output, 1)", "bool"),
        ("number('1')", "number"),
        ("1.5", "number"),
        ("'x'", "string"),
        ("null", "null"),
        ("@steps('a').output", None),
        ("@steps('a').status", "string"),
        ("@index()", "number"),
        ("null ?? 'x'", "string"),
        ("@steps('a').output ?? 'x'", None),
        ("time(@steps('a').output)", "time"),
    ],
)
def test_what_an_expression_gives(text: str, gives: str | None) -> None:
    assert kind(parse_bare(text)) == gives


@pytest.mark.parametrize("text", ["@index() == 1", "@steps('a').status == null", "null == 1", "time('x') < time('y')"])
def test_what_can_be_evaluated_is_no_misfit(text: str) -> None:
    assert list(misfits(parse_bare(text))) == []
