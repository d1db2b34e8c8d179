"""Waits for signals and answers, as they are written; and what is refused."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Manifest, answered_by, approval, block, each, flow, step, wait_for_signal
from orchestrator.core.plan import Path, Plan
from orchestrator.core.schemas import example
from orchestrator.core.signals import key_text
from orchestrator.core.states import StepKind
from orchestrator.errors import AuthoringError, ManifestInvalid


class Payment(BaseModel):
    amount: int


@step
def ship(order: str, paid: Payment | None, by: str | None) -> None: ...


@flow
def shop(order: str, until: datetime) -> None:
    paid = wait_for_signal(Payment, name="paid", key=order, until=until, default=None)
    said = approval(Payment, title="Ship?", to="store", show={"order": order}, within="4h", late=Payment(amount=0))
    ship(order, paid, answered_by(said))


def test_the_tracer_writes_what_a_person_would() -> None:
    steps = shop.manifest.steps
    form = steps["paid"].signal.form if steps["paid"].signal else {}
    assert steps["paid"].model_dump(mode="json", exclude_defaults=True) == {
        "signal": {
            "name": "paid",
            "key": "@triggerBody().order",
            "until": "@triggerBody().until",
            "default": None,
            "schema": form,
        }
    }
    assert form["required"] == ["amount"]
    assert steps["approval"].model_dump(mode="json", exclude_defaults=True) == {
        "approval": {
            "title": "Ship?",
            "to": "store",
            "show": {"order": "@triggerBody().order"},
            "within": "PT4H",
            "late": {"amount": 0},
            "form": form,
        }
    }
    assert steps["ship"].inputs["by"] == "@steps('approval').by"
    assert [one.kind for one in steps.values()] == [StepKind.WAIT, StepKind.WAIT, StepKind.TASK]


def test_a_manifest_survives_json_and_a_null_default_is_one() -> None:
    """Without a default the wait fails; null is one to go on with."""
    assert Manifest.from_json(shop.manifest.to_json()) == shop.manifest
    plain = Manifest(name="m", steps={"w": {"signal": {"name": "w"}}})
    null = Manifest(name="m", steps={"w": {"signal": {"name": "w", "default": None}}})
    assert plain.hash != null.hash
    assert (plain.format, null.format) == (2, 2)
    nodes = [Plan.of(one).nodes["w"].awaited for one in (plain, null)]
    assert [one.default for one in nodes if one] == [None, (None,)]


def test_only_flows_with_waits_end_on_the_general_path() -> None:
    """It says which signals nobody took; other flows pay nothing for that."""
    work = {"type": "work"}
    assert Plan.of(Manifest(name="m", steps={"a": work})).nodes["a"].path is Path.SINK
    waiting = Manifest(name="m", steps={"a": work, "w": {"signal": {"name": "w"}}})
    assert Plan.of(waiting).nodes["a"].path is Path.GENERAL


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"signal": {}}, "steps.w.signal.name: this field is required"),
        ({"signal": {"name": "a b"}}, "steps.w.signal.name: a key has 1 to 100 letters"),
        ({"signal": {"name": "w", "tiemout": "1d"}}, "unknown field `tiemout` (did you mean `timeout`?)"),
        ({"signal": {"name": "w", "shema": {}}}, "unknown field `shema` (did you mean `schema`?)"),
        ({"signal": {"name": "w", "timeout": "0s"}}, "steps.w.signal.timeout"),
        ({"signal": {"name": "w", "until": "soon"}}, "steps.w.signal.until: 'soon' is not a time with an offset"),
        ({"signal": {"name": "w", "until": "9999-12-31T23:59:59-10:00"}}, "is not a time with an offset"),
        ({"signal": {"name": "w", "timeout": "1d", "until": "2026-01-01T00:00:00Z"}}, "there is `timeout` and `until`"),
        ({"signal": {"name": "w", "key": [1]}}, "steps.w.signal.key: a key is a text, a number or a bool, not list"),
        ({"signal": {"name": "w", "key": "@steps('x').output"}}, "steps.w.signal.key: unknown step `x`"),
        ({"signal": {"name": "w", "key": "k" * 201}}, "a key has 200 characters at most"),
        ({"signal": {"name": "w", "schema": {"type": "nope"}}}, "steps.w.signal.schema: this is not a JSON Schema"),
        ({"signal": {"name": "w", "schema": {"type": "object"}, "default": 3}}, "steps.w.signal.default: it does not"),
        ({"signal": {"name": "w"}, "retry": {"max_attempts": 2}}, "steps.w.retry: a wait has no `retry`"),
        ({"signal": {"name": "w"}, "sleep": "1d"}, "steps.w: waits by sleep and signal"),
        ({"approval": {"title": "", "to": "x"}}, "steps.w.approval.title"),
        ({"approval": {"title": "x"}}, "steps.w.approval.to: this field is required"),
        ({"approval": {"title": "x", "to": "@item()"}}, "`@item()` is known inside a loop only"),
        ({"approval": {"title": "x", "to": "y", "form": {"type": "object"}, "late": 1}}, "steps.w.approval.late"),
        ({"type": "work", "inputs": {"by": "@steps('w').by"}}, "nobody sends anything to `w`"),
        (
            {"for_each": [1], "steps": {"x": {"signal": {"name": "w"}}}},
            "steps.w.steps.x.signal.key: every item of loop `w`",
        ),
        ({"for_each": [1], "steps": {"x": {"signal": {"name": "w", "key": "k"}}}}, "waits for the same signal `w`"),
        (
            {"for_each": [1], "steps": {"x": {"signal": {"name": "w", "key": "@triggerBody().id"}}}},
            "give one that differs from item to item, such as `@item().id`",
        ),
        (
            {
                "for_each": [1],
                "steps": {"l": {"for_each": [2], "steps": {"x": {"signal": {"name": "n", "key": "@item('w')"}}}}},
            },
            "steps.w.steps.l.steps.x.signal.key: every item of loop `l` waits for the same signal `n`",
        ),
        (
            {"for_each": [1], "steps": {"x": {"signal": {"name": "w", "key": "@item(1"}}}},
            "steps.w.steps.x.signal.key: ",
        ),
        ({"approval": {"title": "@steps('x').output", "to": "y"}}, "steps.w.approval.title: unknown step `x`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(fields: Any, says: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        Manifest(name="m", steps={"w": fields})
    assert says in refused.value.message


def test_a_name_has_one_schema_and_one_nature() -> None:
    signal = {"signal": {"name": "b", "schema": {"type": "object"}}}
    with pytest.raises(ManifestInvalid, match="has another schema here than in `a`"):
        Manifest(name="m", steps={"a": signal, "c": {"signal": {"name": "b"}}})
    with pytest.raises(ManifestInvalid, match="`b` is a signal and an approval"):
        Manifest(name="m", steps={"a": signal, "b": {"approval": {"title": "x", "to": "y"}}})
    item = {"signal": {"name": "b", "key": "@item()"}}
    with pytest.raises(ManifestInvalid, match=r"steps\.l\.steps\.c\.signal\.schema: signal `b` has another schema"):
        Manifest(name="m", steps={"a": signal, "l": {"for_each": [1], "steps": {"c": item}}})
    asked = {"approval": {"title": "x", "to": "y"}}
    Manifest(name="m", steps={"a": signal, "l": {"for_each": [1], "steps": {"b": asked}}})


@pytest.mark.parametrize("key", ["@item()", "@index()", "@item('l').id", "@steps('a').output", "@item().id ?? 'none'"])
def test_a_key_that_differs_from_item_to_item_is_taken(key: str) -> None:
    steps = {"a": {"type": "work"}, "b": {"signal": {"name": "b", "key": key}}}
    Manifest(name="m", steps={"l": {"for_each": [1], "steps": steps}})


class Order(BaseModel):
    id: str


@block
def fulfil(order: Order) -> None:
    paid = wait_for_signal(Payment, name="paid", key=order.id, timeout="2d")
    said = approval(Payment, title=order.id, to="store", show={"order": order})
    ship(order.id, paid, answered_by(said))


@flow
def shops(orders: list[Order]) -> None:
    each(fulfil, orders)


def test_a_block_waits_for_each_item() -> None:
    steps = shops.manifest.steps["fulfil"].steps
    signal, asked = steps["paid"].signal, steps["approval"].approval
    assert signal is not None
    assert asked is not None
    assert (signal.key, asked.title) == ("@item('fulfil').id", "@item('fulfil').id")
    assert steps["ship"].inputs["by"] == "@steps('approval').by"
    assert [one.top for one in Plan.of(shops.manifest).expected("paid")] == ["fulfil"]
    assert [one.top for one in Plan.of(shops.manifest).expected("fulfil.3.approval")] == ["fulfil.3.approval"]
    for name in ("approval", "fulfil.approval", "fulfil.3.paid", "fulfil.3", "fulfil.3.approval.x", "x.3.approval"):
        assert Plan.of(shops.manifest).expected(name) == ()


@block
def told(order: Order, said: Payment) -> None:
    ship(order.id, None, answered_by(said))


def test_a_block_asks_who_answered_outside_of_it() -> None:
    @flow
    def outside(orders: list[Order]) -> None:
        said = approval(Payment, title="Ship?", to="store")
        each(told, orders, said=said)

    assert outside.manifest.steps["told"].steps["ship"].inputs["by"] == "@steps('approval').by"


NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 that is what is refused
REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "no name": (lambda order: wait_for_signal(Payment, name="a b"), "`name` is 'a b'"),
    "a name for a type": (lambda order: wait_for_signal("Payment", name="a"), "got the text 'Payment' for a type"),
    "a list as key": (lambda order: wait_for_signal(Payment, name="a", key=[1]), "`key` of a signal"),
    "a default of another type": (lambda order: wait_for_signal(Payment, name="a", default=3), "`default` is 3"),
    "no length": (lambda order: wait_for_signal(Payment, name="a", timeout="soon"), "`timeout` that cannot be"),
    "a time without zone": (lambda order: wait_for_signal(Payment, name="a", until=NAIVE), "until"),
    "a title that is a number": (lambda order: approval(Payment, title=5, to="x"), "the title of an approval is 5"),
    "nobody": (lambda order: approval(Payment, title="x", to=""), "`to` that cannot be"),
    "who answered an input": (lambda order: answered_by(order), "what is not an answer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_tracer_refuses(case: str) -> None:
    body, says = REFUSED[case]

    def wrong(order: str) -> None:
        body(order)

    with pytest.raises(AuthoringError, match=says) as refused:
        _ = flow(wrong).manifest
    assert "Fix: " in refused.value.message


def test_outside_of_a_body_there_is_nothing_to_wait_in() -> None:
    with pytest.raises(AuthoringError, match="works in a flow body only"):
        wait_for_signal(Payment, name="a")
    with pytest.raises(AuthoringError, match="works in a flow body only"):
        approval(Payment, title="x", to="y")


@pytest.mark.parametrize(("key", "text"), [("", ""), ("o-17", "o-17"), (17, "17"), (1.5, "1.5"), (True, "true")])
def test_a_key_is_the_text_of_a_scalar(key: object, text: str) -> None:
    assert key_text(key) == text


def test_an_example_has_what_is_required() -> None:
    schema: Any = {
        "type": "object",
        "required": ["n", "s", "e", "o"],
        "properties": {
            "n": {"type": "number"},
            "s": {"type": "string"},
            "e": {"enum": ["x", "y"]},
            "o": {"type": "object", "required": ["b"], "properties": {"b": {"type": "boolean"}}},
            "free": {"type": "string"},
        },
    }
    assert example(schema) == {"n": 0, "s": "…", "e": "x", "o": {"b": True}}
    assert example({}) is None
    assert example({"$ref": "#/$defs/x"}) is None
