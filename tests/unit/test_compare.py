"""What a newer version of a flow does to callers and to runs in flight."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

from orchestrator.core.compare import (
    Finding,
    Need,
    Verdict,
    alone,
    called,
    changes,
    given,
    judged,
    needs,
    nowhere,
    parked,
    pending,
    renamed,
    worst,
)
from orchestrator.core.manifest import Manifest
from orchestrator.core.pending_results import Code, unfit
from orchestrator.core.results import readings
from orchestrator.core.schema_change import narrowed
from tests.support.factories import after, call, loop

SAFE, WARN, UNKNOWN, BREAK = Verdict.SAFE, Verdict.WARN, Verdict.UNKNOWN, Verdict.BREAK


class Takes:
    """A handler with these parameters."""

    def __init__(self, *names: str, **kinds: Any) -> None:
        self.names = {*names, *kinds}
        self.takes = inputs(kinds)

    def misfit(self, names: AbstractSet[str], /) -> str | None:
        unknown = sorted(names - self.names)
        return f"it has no parameter `{unknown[0]}`" if unknown else None


def made(steps: Mapping[str, Any], **fields: Any) -> Manifest:
    return Manifest(name="shop", steps=dict(steps), **fields)


def found(old: Manifest, new: Manifest, **handlers: Takes) -> list[tuple[Verdict, str]]:
    return [(one.verdict, one.what) for one in changes(old, new, handlers)]


def schema(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def inputs(required: Mapping[str, Any], **optional: Any) -> dict[str, Any]:
    """As a flow's `input_schema` is made."""
    return {
        "type": "object",
        "properties": {name: schema(kind) for name, kind in {**required, **optional}.items()},
        "required": list(required),
        "additionalProperties": False,
    }


# ---- what differs ----


def test_nothing_is_said_of_the_same_version() -> None:
    assert found(made({"a": call()}), made({"a": call()})) == []


def test_what_runs_in_flight_do_not_see_is_safe() -> None:
    old = made({"a": call(), "b": after("a"), "old": call("old", inputs={"x": 1})})
    new = made({"a": call(retry={"max_attempts": 3}, queue="slow"), "b": after("a", timeout=5), "c": after("b")})
    assert found(old, new) == [
        (SAFE, "step a has another queue, retry"),
        (SAFE, "step b has another timeout"),
        (SAFE, "step c is new"),
        (SAFE, "step old is gone"),
    ]


def test_a_step_that_was_most_likely_renamed_is_a_warning() -> None:
    """Unless its function is kept: then it was replaced."""
    old, new = made({"a": call("a", inputs={"x": 1})}), made({"b": call("b", inputs={"x": 1})})
    assert renamed(old, new, {"b": Takes("x")}) == {"a": "b"}
    assert found(old, new) == [(WARN, "step a is called b now: its outputs are not found under that key")]
    assert found(old, new, a=Takes("x")) == [(SAFE, "step b is new"), (SAFE, "step a is gone")]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (inputs({"n": int}), inputs({"n": int, "m": int}), "`m` is new and required"),
        (inputs({"n": int}, m=int), inputs({"n": int, "m": int}), "`m` is required now"),
        (inputs({"n": int}), inputs({"n": str}), "`n` takes string now, and took integer"),
        (inputs({"n": int, "m": int}), inputs({"n": int}), "`m` is not taken any more"),
    ],
)
def test_an_input_that_takes_less_breaks_its_callers(before: Any, now: Any, said: str) -> None:
    ((verdict, what),) = found(made({"a": call()}, input_schema=before), made({"a": call()}, input_schema=now))
    assert verdict is BREAK
    assert what.startswith(f"the input: {said}")


def test_an_input_that_takes_more_is_safe() -> None:
    old, new = inputs({"n": int}), inputs({"n": float}, m=str)
    assert found(made({"a": call()}, input_schema=old), made({"a": call()}, input_schema=new)) == [
        (SAFE, "the input: it takes all that it took")
    ]


def test_a_result_that_may_be_more_is_a_warning() -> None:
    old, new = (made({"a": call()}, output_schema=schema(kind)) for kind in (int, int | None))
    ((verdict, what),) = found(old, new)
    assert verdict is WARN
    assert what == "the result may be one that it could not be before"
    assert found(new, old) == []


# ---- runs in flight ----

OLD = made({"price": call("price", inputs={"x": 1}), "each": loop([1], body={"type": "send"}), "last": call("last")})


def test_a_handler_that_runs_in_flight_need() -> None:
    handlers = {"price": Takes("y"), "last": Takes()}
    assert list(needs(OLD, OLD, handlers, {"price": 2, "each": 1, "last": 1})) == [
        Need("price", "price", 2, "it has no parameter `x`"),
        Need("each", "send", 1, "the code does not have it"),
    ]
    assert list(needs(OLD, OLD, handlers, {"last": 1})) == []
    assert [need.open_runs for need in needs(OLD, OLD, handlers, None)] == [None, None]


TYPED: list[tuple[Any, Any, Any, Any, str | None]] = [
    # what the step is given, its parameter now, the flow's parameter then, and now
    (7, str, int, int, 'does not take what they give it: 7 is not of type "string"'),
    (["a"], list[str], int, int, None),
    ("@triggerBody().n", str, int, str, "takes string now, and took integer"),
    ("@triggerBody().n", str, int, int, None),  # the code gives it that itself, so it knows what it does
    ("@triggerBody().n", float, int, float, None),
    ("@triggerBody().n.a", str, int, str, None),
    ("@steps('last').output", str, int, int, None),
    ("@triggerBody()", str, int, str, None),
]


@pytest.mark.parametrize(("given", "kind", "then", "now", "said"), TYPED)
def test_a_parameter_that_takes_less(given: Any, kind: Any, then: Any, now: Any, said: str | None) -> None:
    """What runs give it is known of literals, and of what the flow itself is given."""
    steps = {"last": call("last"), "price": call("price", inputs={"x": given})}
    old, new = (made(steps, input_schema=inputs({"n": one})) for one in (then, now))
    found = list(needs(old, new, {"price": Takes(x=kind), "last": Takes()}, {"price": 1}))
    assert [need.why for need in found] == ([] if said is None else [f"its parameter `x` {said}"])


def test_what_open_runs_need_is_a_break_and_without_a_ledger_unknown() -> None:
    need = Need("price", "price", 3, "the code does not have it")
    assert judged(need, None) == Finding(
        BREAK,
        "3 open runs need step price (type `price`) of an older version, and the code does not have it",
        "keep its function and name it in `@flow(retired=[price])` until they have ended",
    )
    assert judged(Need("price", "price", 1, "x"), None).what.startswith("1 open run needs step price")
    assert '@step(key="price")' in (judged(need, "cost").fix or "")
    unknown = judged(Need("price", "price", None, "x"), None)
    assert (unknown.verdict, unknown.what.partition(" need")[0]) == (UNKNOWN, "open runs, if there are any,")


def waiting(**signal: Any) -> Manifest:
    return made({"paid": {"signal": {"name": "paid", **signal}}, "ship": after("paid")})


def test_a_wait_without_an_end_is_a_warning() -> None:
    ((verdict, what),) = [(one.verdict, one.what) for one in alone(waiting())]
    assert verdict is WARN
    assert what.startswith("step paid waits for signal paid without an end")
    assert list(alone(waiting(timeout="P1D"))) == []
    assert list(alone(waiting(until="2026-01-31T12:00:00+01:00"))) == []


def test_a_flow_that_calls_itself_is_a_warning() -> None:
    (found,) = alone(made({"again": {"flow": "shop"}, "other": {"flow": "other"}}))
    assert (found.verdict, found.what) == (WARN, "step again calls its own flow")


def test_a_call_of_a_flow_that_is_not_there_is_a_warning() -> None:
    calling = made(
        {
            "bill": {"flow": "bill"},
            "each": {"for_each": [1], "steps": {"do": {"flow": "mail"}}},
            "again": {"flow": "shop"},
        }
    )
    found = list(nowhere(calling, {"shop", "mail"}))
    assert [(one.verdict, one.what.partition(",")[0]) for one in found] == [(WARN, "step bill calls flow bill")]
    assert [one.what.partition(",")[0] for one in nowhere(calling, {"shop", "bill"})] == ["step do calls flow mail"]


def test_a_signal_of_another_schema_is_a_warning_while_runs_wait_for_it() -> None:
    old, new = waiting(timeout="P1D", schema={"type": "string"}), waiting(timeout="P1D", schema={"type": "integer"})
    (found,) = parked(old, new, {"paid": 2})
    assert (found.verdict, found.what.partition(",")[0]) == (WARN, "the schema of signal paid")
    assert "2 open runs" in found.what
    assert list(parked(old, new, {"ship": 2})) == []
    assert list(parked(old, old, {"paid": 2})) == []


def test_the_worst_counts() -> None:
    assert worst([]) is SAFE
    assert worst([Finding(WARN, ""), Finding(BREAK, ""), Finding(UNKNOWN, "")]) is BREAK
    assert worst([Finding(UNKNOWN, ""), Finding(WARN, "")]) is UNKNOWN


# ---- results ----


@pytest.mark.parametrize(
    ("given_as", "kind", "output", "why"),
    [
        ("@steps('a').output", int, 7, None),
        ("@steps('a').output", int, "7", "it is a string"),
        ("@steps('a').output.n", int, {"n": 7}, None),
        ("@steps('a').output.n", int, {"m": 7}, "at `n` it is null"),
        ("@steps('a').output.n[0]", int, {"n": [True]}, "at `n[0]` it is a bool"),
        ("@steps('a').output", list[int], [1, {}], "at `[1]` it is an object"),
        ("@steps('a').output", dict[str, int], {"x": 1, "y": []}, "at `y` it is a list"),
        ("@steps('a').output.n", str, {"n": 7}, "at `n` it is a number"),
    ],
)
def test_an_output_that_a_parameter_does_not_take(given_as: str, kind: Any, output: Any, why: str | None) -> None:
    """Said without quoting it."""
    flow = made({"a": call("a"), "b": call("b", inputs={"x": given_as, "y": 1, "z": "@triggerBody().z"})})
    (one,) = readings(flow, {"a": inputs({}), "b": inputs({"x": kind, "y": int, "z": int})})
    assert (one.step, one.parameter, one.source, one.misfit(output)) == ("b", "x", "a", why)
    finding = given(one, [output, output])
    assert (None if finding is None else finding.verdict) == (None if why is None else BREAK)
    assert finding is None or finding.what.startswith("2 open runs need step b (type `b`)")


def test_what_a_loop_reads_of_a_step_outside_is_read_while_the_loop_is_open() -> None:
    flow = made({"a": call("a"), "each": loop([1], body={"type": "b", "inputs": {"x": "@steps('a').output"}})})
    (one,) = readings(flow, {"b": inputs({"x": int})})
    assert (one.step, one.type, one.source) == ("each", "b", "a")


@pytest.mark.parametrize(
    ("before", "now", "takes", "breaks"),
    [
        (int, int | None, int, True),
        (int, int | None, int | None, False),
        (int, str, str, False),  # it did not fit before
        (int | None, int, int, False),
        (int, float, int, True),
    ],
)
def test_whoever_reads_the_result_of_a_flow_took_all_of_it(before: Any, now: Any, takes: Any, breaks: bool) -> None:
    old, new = (made({"a": call("a")}, output_schema=schema(kind)) for kind in (before, now))
    caller = Manifest(name="yard", steps={"c": {"flow": "shop"}, "b": call("b", inputs={"x": "@steps('c').output"})})
    found = list(called(old, new, {"yard": (caller, {"b": inputs({"x": takes})}), "shop": (new, {})}))
    assert [one.verdict for one in found] == [BREAK] * breaks
    assert all("step b of flow yard takes it as `x`" in one.what for one in found)


@dataclass
class Receipt:
    id: str
    note: str = ""


@dataclass
class Noted:
    id: str
    note: str


@pytest.mark.parametrize(
    ("source", "gives", "read", "takes", "breaks"),
    [
        (call("a"), int, "", int, False),
        (call("a"), int, "", str, True),
        (call("a"), int | None, "", int, True),
        (call("a"), Any, "", int, False),  # nobody knows
        (call("b"), int, "", str, False),  # it has no such function: told elsewhere
        (call("a"), Receipt, "", Noted, False),
        (call("a"), Receipt, ".id", str, False),
        (call("a"), Receipt, ".total", int, True),
        (call("a"), Receipt, ".total", int | None, False),
        (call("a"), dict[str, int], ".total", int, False),
        (loop([1], body={"type": "a"}), int, "", list[int], False),
        (loop([1], body={"type": "a"}), int, "", list[str], True),
        (loop([1], body={"type": "a"}, errors="collect"), int, "", list[str], False),
        ({"flow": "yard"}, int, "", int, True),
        ({"flow": "yard"}, int, "", str, False),
        ({"signal": {"name": "s", "schema": schema(int)}}, int, "", int, False),
        ({"signal": {"name": "s", "schema": schema(int)}}, int, "", str, True),
    ],
)
def test_what_steps_have_yet_to_give_is_what_those_take_that_read_it(
    source: dict[str, Any], gives: Any, read: str, takes: Any, breaks: bool
) -> None:
    """The functions are the code's; how they are put together is that of the version, which the code has left."""
    old = made({"x": source, "b": after("x", type="read", inputs={"x": f"@steps('x').output{read}"})})
    code = Code({"read": inputs({"x": takes})}, {"a": schema(gives)}, {"yard": schema(str)})
    found = list(unfit(old, made({"z": call("z")}), code))
    assert [(one.step, one.source, one.parameter) for one in found] == [("b", "x", "x")] * breaks
    assert list(unfit(old, old, code)) == [], "the code itself does that"


@pytest.mark.parametrize(("open_runs", "verdict"), [(2, BREAK), (None, UNKNOWN)])
def test_what_is_yet_to_come_breaks_open_runs(open_runs: int | None, verdict: Verdict) -> None:
    flow = made({"a": call("a"), "b": call("b", inputs={"x": "@steps('a').output"})})
    (one,) = readings(flow, {"b": inputs({"x": int})})
    assert pending(one, open_runs).verdict is verdict


# ---- schemas ----

TAKES_LESS: list[tuple[Any, Any, str]] = [
    ({"type": "string"}, {"type": "string", "maxLength": 5}, "has `maxLength` 5 now"),
    ({"type": "string", "maxLength": 9}, {"type": "string", "maxLength": 5}, "has `maxLength` 5 now"),
    ({"minimum": 1}, {"minimum": 2}, "has `minimum` 2 now"),
    ({"type": "string"}, {"type": "string", "pattern": "a"}, "has another `pattern` now"),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}, "does not take 'b' any more"),
    ({"type": "string"}, {"type": "string", "enum": ["a"]}, "takes only certain values now"),
    ({}, {"type": "string"}, "takes only string now"),
    ({"type": ["string", "null"]}, {"type": "string"}, "takes string now, and took null or string"),
    (schema(list[int]), schema(list[str]), "`[]` takes string now, and took integer"),
    (schema(dict[str, int]), schema(dict[str, str]), "`*` takes string now, and took integer"),
    (schema(int | str), schema(int), "takes integer now, and took string"),
    (schema(int | str), schema(int | bool), "takes other values than before"),
    ({"type": "object"}, {"type": "object", "additionalProperties": False}, "takes no further names any more"),
    (
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "integer"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}},
        "takes string now, and took integer",
    ),
    ({"type": "array", "items": {}}, {"type": "array", "items": False}, "`[]` takes only certain values now"),
]
TAKES_LESS.append(({"type": "string"}, {"type": "string", "not": {"const": "a"}}, "has another `not` now"))
TAKES_ALL: list[tuple[Any, Any]] = [
    ({"type": "integer"}, {}),
    ({"type": "integer"}, {"type": "number"}),
    ({"type": "integer", "title": "N"}, {"type": "integer", "description": "a number", "default": 3}),
    ({"maxLength": 5}, {"maxLength": 9}),
    ({"minItems": 5}, {"minItems": 2}),
    ({"maxLength": 5}, {}),
    ({"enum": ["a"]}, {"enum": ["a", "b"]}),
    ({"const": "a"}, {"enum": ["a", "b"]}),
    (schema(int), schema(int | None)),
    (schema(int | str), schema(int | str | None)),
    ({"type": "string"}, {"type": ["string", "null"]}),
]


@pytest.mark.parametrize(("old", "new", "said"), TAKES_LESS)
def test_a_schema_that_takes_less(old: Any, new: Any, said: str) -> None:
    assert narrowed(old, new) == said


@pytest.mark.parametrize(("old", "new"), TAKES_ALL)
def test_a_schema_that_takes_all(old: Any, new: Any) -> None:
    assert narrowed(old, new) is None


def test_a_schema_that_refers_to_itself() -> None:
    def tree(leaf: str) -> dict[str, Any]:
        node = {
            "type": "object",
            "properties": {"value": {"type": leaf}, "next": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]}},
        }
        return {"$ref": "#/$defs/Tree", "$defs": {"Tree": node}}

    assert narrowed(tree("integer"), tree("integer")) is None
    assert narrowed(tree("integer"), tree("string")) == "`value` takes string now, and took integer"
