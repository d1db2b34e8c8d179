"""Steps and flows: plain functions outside a flow, a recorded graph inside."""

import asyncio
import dataclasses
import inspect
import json
import re
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict

import orchestrator
from orchestrator import Context, Flow, Manifest, Step, each, flow, step
from orchestrator.core.manifest import Backoff, StepDef
from orchestrator.core.plan import Place, Plan
from orchestrator.core.states import StepStatus
from orchestrator.errors import (
    AuthoringError,
    InputInvalid,
    ManifestInvalid,
    NotTransactional,
    OutputInvalid,
)


class Line(BaseModel):
    sku: str
    count: int = 1
    blob: bytes = b""


class Gift(Line):
    wrap: str


class Order(BaseModel):
    id: int
    lines: list[Line] = Field(default_factory=list)
    by_name: dict[str, Line] = Field(default_factory=dict)
    parent: "Order | None" = None


class Report(TypedDict):
    order: Order
    total: Decimal


def helper(a: Any, b: Any) -> Any:
    return load(a)


@dataclasses.dataclass
class Box:
    width: int


@step
def load(order_id: int, note: str = "none") -> Order:
    """Load one order.

    More text.
    """
    return Order(id=order_id, lines=[Line(sku=note)])


@step(retries=2, backoff="1s..10s", timeout="30s", queue_timeout=60, queue="slow", priority=2, never_retry=(KeyError,))
async def price(line: Line, factor: Decimal = Decimal(1)) -> Decimal:
    return factor * line.count


@step
def add(prices: list[Decimal]) -> Decimal:
    return sum(prices, Decimal(0))


@step(transactional=True)
def save(ctx: Context, order: Order, total: Decimal) -> None:
    ctx.progress(1, 2, "half")


@step
def anything(value: Any) -> Any:
    return value


def here() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


# ---- a step outside a flow is its function ----


def test_outside_a_flow_a_step_is_just_the_function():
    assert load(3) == Order(id=3, lines=[Line(sku="none")])
    assert asyncio.run(price(Line(sku="x", count=2))) == 2
    assert asyncio.run(price.fn(Line(sku="x", count=2))) == 2
    assert load.__name__ == "load"
    assert load.__doc__ is not None
    assert load.__doc__.startswith("Load one order.")
    assert inspect.iscoroutinefunction(price.fn)


def test_a_step_calls_another_step_as_a_function_also_while_a_flow_is_traced_elsewhere():
    @step
    def outer(n: int) -> int:
        return load(n).id

    assert outer(4) == 4


def test_what_a_worker_reads_of_a_step():
    assert (price.type, price.is_async, price.context_param, price.never_retry) == ("price", True, None, (KeyError,))
    assert (save.type, save.is_async, save.context_param) == ("save", False, "ctx")
    assert load.settings.description == "Load one order."
    assert price.settings.timeout == timedelta(seconds=30)


def test_inputs_and_outputs_go_through_the_types():
    assert load.decode_inputs('{"order_id":3}') == {"order_id": 3}  # the default is left to the function
    assert save.decode_inputs('{"order":{"id":1},"total":"2.50"}') == {"order": Order(id=1), "total": Decimal("2.50")}
    assert load.encode_output(Order(id=1)) == '{"id":1,"lines":[],"by_name":{},"parent":null}'
    assert save.encode_output(None) == "null"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"order_id":"x"}', "order_id"),
        ("{}", "order_id"),
        ('{"order_id":1,"nope":2}', "nope"),
        ("[]", ""),
        ("{", ""),
    ],
)
def test_inputs_that_do_not_fit_name_the_parameter(text, path):
    with pytest.raises(InputInvalid, match="step `load`") as caught:
        load.decode_inputs(text)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("value", "path"),
    [({"id": "x"}, "id"), ({"id": 1, "lines": [{"sku": "a\x00"}]}, "lines[0].sku"), (None, "")],
)
def test_outputs_that_do_not_fit_name_the_place(value, path):
    with pytest.raises(OutputInvalid, match="step `load`") as caught:
        load.encode_output(value)
    assert caught.value.path == path


def test_nan_in_an_untyped_output_is_refused():
    with pytest.raises(OutputInvalid) as caught:
        anything.encode_output({"orders": [1.0, float("nan")]})
    assert caught.value.path == "orders[1]"


def test_a_step_may_name_types_defined_below_it_or_around_it():
    @step
    def later(item: "Below") -> "list[Below]":
        return [item]

    @dataclasses.dataclass
    class Below:
        n: int

    later.signature._locals = locals()
    assert later.decode_inputs('{"item":{"n":1}}') == {"item": Below(1)}


# ---- options ----


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retries": -1}, "retries=-1"),
        ({"retries": True}, "retries=True"),
        ({"retries": 2, "backoff": "fast"}, "backoff='fast'"),
        ({"backoff": "1s..2s"}, "without `retries`"),
        ({"never_retry": ("ValueError",)}, "exception classes"),
        ({"timeout": "soon"}, "timeout='soon'"),
        ({"timeout": 0}, "more than zero"),
        ({"queue_timeout": -3}, "queue_timeout=-3"),
        ({"queue": "a b"}, "queue='a b'"),
        ({"priority": 10}, "priority=10"),
        ({"transactional": "yes"}, "transactional='yes'"),
        ({"key": "a b"}, "key='a b'"),
        ({"description": 3}, "description=3"),
        ({"retry": 3}, "did you mean `retries`?"),
    ],
)
def test_a_bad_option_names_file_and_line_of_the_function(options, says):
    line = here() + 3
    with pytest.raises(AuthoringError) as caught:

        @step(**options)
        def wrong() -> None: ...

    assert says in str(caught.value)
    assert f"{__file__}:{line}: step `wrong`" in str(caught.value)


def _generator():
    yield 1


@pytest.mark.parametrize(
    "function",
    [lambda: 1, lambda *a: 1, _generator, print, int, 3, eval("lambda x, /: x")],
)
def test_what_cannot_be_a_step(function):
    with pytest.raises(AuthoringError, match="Fix: "):
        step(retries=1)(function)


def test_an_async_step_cannot_be_transactional():
    with pytest.raises(AuthoringError, match="transactional and async"):

        @step(transactional=True)
        async def wrong() -> None: ...


def test_an_unreadable_annotation_or_type_is_named():
    class Opaque: ...

    @step
    def odd(a: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    @step
    def opaque(a: Opaque) -> None: ...

    for one, says in ((odd, "Missing"), (opaque, "cannot be stored")):
        with pytest.raises(AuthoringError, match=says):
            one.decode_inputs("{}")


def test_a_parameter_without_a_type_is_refused():
    with pytest.raises(AuthoringError, match=r"step `bare` takes `a` without a type\. Fix: annotate it: `a: str`"):

        @step
        def bare(a, b: int) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(AuthoringError, match="flow `bare` takes `n` without a type"):

        @flow(name="bare")
        def bare_flow(n): ...  # type: ignore[no-untyped-def]


class Stream(BaseModel):
    rows: Generator[int, None, None]


Rows = TypeAliasType("Rows", Iterator[int])


@pytest.mark.parametrize(
    "kind", [Iterator[int], Generator[int, None, None], AsyncIterator[int], list[Iterator[int]], Stream, Rows | None]
)
def test_what_can_be_read_once_is_refused_when_the_flow_is_registered(kind):
    def takes(rows: Any) -> None: ...

    def gives() -> Any: ...

    takes.__annotations__["rows"] = gives.__annotations__["return"] = kind
    taking, giving = step(takes), step(gives)
    says = "step `takes` takes `rows` as .*, which can be read once. Fix: annotate it as a `list"
    with pytest.raises(AuthoringError, match=says):

        @flow(name="streams")
        def streams() -> None:
            taking([])

    with pytest.raises(AuthoringError, match=says):
        Flow.from_manifest(Manifest(name="x", steps={"s": StepDef(type="takes")}), [taking])
    with pytest.raises(AuthoringError, match=r"step `gives` returns .*, which can be read once"):

        @flow(name="given")
        def given() -> None:
            giving()

    with pytest.raises(AuthoringError, match=r"flow `takes` takes `rows` as .*, which can be read once"):
        flow(takes)


def test_an_iterable_arrives_as_a_list():
    @step
    def mean(prices: Iterable[float], *, of: tuple[str, Iterable[int]] = ("", ())) -> float:
        return sum(prices) / sum(1 for _ in prices)

    assert mean.fn(**mean.decode_inputs('{"prices": [10, 20, 30]}')) == 20.0
    assert mean.decode_inputs('{"prices": [], "of": ["a", [1]]}') == {"prices": [], "of": ("a", [1])}


def test_a_result_that_would_lose_fields_of_a_subclass_is_refused():
    @step
    def find() -> list[Line]:
        return [Gift(sku="a", wrap="red")]

    with pytest.raises(OutputInvalid, match=r"\[0\]\.wrap is a field that only a subclass") as caught:
        find.encode_output(find.fn())
    assert caught.value.path == "[0].wrap"


# ---- flows ----


@flow(name="checkout", version="7", deadline="2h", tags=("a", "b"), queue="fast")
def checkout(
    order_id: int, factor: Decimal = Decimal("1.5"), at: datetime = datetime(2024, 1, 1, tzinfo=UTC)
) -> Report:
    """Price an order."""
    order = load(order_id, note="@home")
    prices = each(price, order.lines, concurrency=3, factor=factor)
    total = add(prices)
    save.options(key="store", after=[prices], retries=1, timeout=timedelta(minutes=1))(order, total=total)
    again = load(order_id=order.parent.id)  # type: ignore[union-attr]
    return {"order": again, "total": total}


@pytest.mark.parametrize(("output", "fix"), [(None, "annotate it as `… | None`"), (17, "read it as JSON")])
def test_an_output_of_a_run_that_does_not_fit_says_what_to_write(output, fix):
    with pytest.raises(OutputInvalid, match=f"The output of flow `checkout` does not fit .*Fix: {re.escape(fix)}"):
        checkout.decode_output(output)


def test_a_flow_is_traced_into_a_manifest():
    manifest = checkout.manifest
    assert isinstance(checkout, Flow)
    assert (manifest.name, manifest.version, manifest.tags, manifest.queue) == ("checkout", "7", ("a", "b"), "fast")
    assert manifest.deadline == timedelta(hours=2)
    assert manifest.description == "Price an order."
    assert list(manifest.steps) == ["load", "price", "add", "store", "load_2"]
    assert manifest.steps["load"].inputs == {"order_id": "@triggerBody().order_id", "note": "@@home"}
    loop = manifest.steps["price"]
    assert (loop.for_each, loop.concurrency) == ("@steps('load').output.lines", 3)
    child = loop.steps["price"]
    assert child.inputs == {"line": "@item()", "factor": "@triggerBody().factor"}
    assert (child.queue, child.priority, child.timeout) == ("slow", 2, timedelta(seconds=30))
    assert child.retry is not None
    assert (child.retry.max_attempts, child.retry.backoff) == (3, Backoff.parse("1s..10s"))
    store = manifest.steps["store"]
    assert store.type == "save"
    assert store.transactional
    assert set(store.run_after) == {"load", "price", "add"}
    assert store.inputs == {"order": "@steps('load').output", "total": "@steps('add').output"}
    assert store.retry is not None
    assert store.retry.max_attempts == 2
    assert manifest.steps["load_2"].inputs == {"order_id": "@steps('load').output.parent.id"}
    assert manifest.output == {"order": "@steps('load_2').output", "total": "@steps('add').output"}
    assert dict(checkout.handlers) == {"load": load, "price": price, "add": add, "save": save}
    assert Manifest.from_json(manifest.to_json()).hash == manifest.hash


def test_the_input_schema_has_types_and_defaults():
    schema = checkout.manifest.input_schema
    assert schema["required"] == ["order_id"]
    assert schema["additionalProperties"] is False
    properties: Any = schema["properties"]
    assert properties["order_id"]["type"] == "integer"
    assert properties["factor"]["default"] == "1.5"
    assert properties["at"]["default"] == "2024-01-01T00:00:00Z"


def test_the_flows_input_is_checked_and_completed():
    text = checkout.encode_input(order_id="3")
    assert json.loads(text) == {"order_id": 3, "factor": "1.5", "at": "2024-01-01T00:00:00Z"}
    assert json.loads(checkout.encode_input({"order_id": 1}, factor=Decimal(2)))["factor"] == "2"
    assert json.loads(checkout.encode_input({"order_id": 1, "at": "2024-02-02T00:00:00Z"}))["at"].startswith("2024-02")


@pytest.mark.parametrize(
    ("given", "path", "says"),
    [
        ({}, "order_id", "Field required"),
        ({"order_id": "x"}, "order_id", "valid integer"),
        ({"order_id": 1, "facter": 2}, "facter", "did you mean `factor`?"),
        ({"order_id": 1, "factor": float("nan")}, "factor", "finite"),
        ({"order_id": 1, "at": "\x00"}, "at", ""),
        ({"order_id": object()}, "order_id", "valid integer"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_its_path(given, path, says):
    with pytest.raises(InputInvalid, match="flow `checkout`") as caught:
        checkout.encode_input(given)
    assert caught.value.path == path
    assert says in str(caught.value)


def test_bytes_come_in_as_base64_or_as_bytes():
    @flow
    def blobs(raw: bytes, line: Line) -> bytes:
        return anything(raw)

    as_json = blobs.encode_input({"raw": "_w==", "line": {"sku": "x", "blob": "_w=="}})
    as_python = blobs.encode_input(raw=b"\xff", line=Line(sku="x", blob=b"\xff"))
    assert as_json == as_python
    assert blobs.decode_output("_w==") == b"\xff"


def test_the_output_comes_back_typed():
    back = checkout.decode_output({"order": {"id": 1}, "total": "2.5"})
    assert back == {"order": Order(id=1), "total": Decimal("2.5")}
    with pytest.raises(OutputInvalid, match="flow `checkout`"):
        checkout.decode_output({"total": 1})


def test_a_bare_flow_takes_the_functions_name():
    @flow
    def tiny():
        return None

    assert tiny.name == "tiny"
    assert tiny.manifest.steps == {}
    assert tiny.manifest.output is None
    assert tiny.encode_input() == "{}"
    assert tiny.fn() is None


def test_literals_are_stored_through_the_parameters_type():
    @step
    def take(
        when: datetime, amount: Decimal, line: Line, box: Box, lines: list[Line], any_: Any, text: str
    ) -> None: ...

    @flow
    def literals(sku: str) -> None:
        take(
            datetime(2024, 1, 1, tzinfo=UTC),
            Decimal("1.10"),
            Line(sku="@x", blob=b"\xff"),
            Box(3),
            lines=[{"sku": sku, "count": 2}, Line(sku="b")],  # type: ignore[list-item]
            any_={"at": datetime(2024, 1, 1, tzinfo=UTC), "list": ["@", ("@@", sku)]},
            text="@x",
        )

    assert literals.manifest.steps["take"].inputs == {
        "when": "2024-01-01T00:00:00Z",
        "amount": "1.10",
        "line": {"sku": "@@x", "count": 1, "blob": "_w=="},
        "box": {"width": 3},
        "lines": [
            {"sku": "@triggerBody().sku", "count": 2},
            {"sku": "b", "count": 1, "blob": ""},
        ],
        "any_": {"at": "2024-01-01T00:00:00Z", "list": ["@@", ["@@@", "@triggerBody().sku"]]},
        "text": "@@x",
    }


def test_repeated_calls_get_numbered_keys_and_given_keys_must_be_free():
    @flow
    def repeated() -> None:
        for n in range(3):
            load(n)
        load.options(key="mine")(9)

    assert list(repeated.manifest.steps) == ["load", "load_2", "load_3", "mine"]
    with pytest.raises(AuthoringError, match="the key `mine` is used twice"):

        @flow
        def clash() -> None:
            load.options(key="mine")(1)
            load.options(key="mine")(2)


def test_a_key_given_at_the_decorator_names_the_type_and_the_step():
    @step(key="fetch-it")
    def fetch() -> int:
        return 1

    @flow
    def keyed() -> None:
        fetch()
        fetch()

    assert list(keyed.manifest.steps) == ["fetch-it", "fetch-it_2"]
    assert list(keyed.handlers) == ["fetch-it"]


def test_options_of_one_call_leave_the_step_alone():
    changed = price.options(retries=9, queue="other")
    assert changed.settings.retries == 9
    assert price.settings.retries == 2
    assert changed.base is price


def test_two_steps_of_one_type_in_a_flow_are_refused():
    def other_load(order_id: int) -> int:
        return order_id

    other_load.__name__ = "load"
    twin = step(other_load)
    with pytest.raises(AuthoringError, match=r"have the type `load`.*@step\(key="):

        @flow
        def twins() -> None:
            load(1)
            twin(2)


@pytest.mark.parametrize("after", [["nope"], "load", [3], [load]])
def test_after_takes_results_or_keys_of_this_flow(after):
    with pytest.raises(AuthoringError):

        @flow
        def wrong() -> None:
            load.options(after=after)(1)


def test_after_may_name_a_key_and_gives_order_without_data():
    @flow
    def ordered() -> None:
        first = anything(1)
        load.options(after=[first, "anything_2"])(1)
        anything(2)

    assert ordered.manifest.steps["load"].run_after == {
        "anything": (StepStatus.SUCCEEDED,),
        "anything_2": (StepStatus.SUCCEEDED,),
    }


# ---- each ----

BARE = Flow.from_manifest(Manifest(name="bare", steps={"load": StepDef(type="load", inputs={"order_id": 1})}), [load])


def test_each_takes_lists_with_literals_and_placeholders():
    @flow
    def fan(n: int) -> list[Order]:
        first = load(n)
        orders = each(load, [1, first.id, n], note="x", key="many")
        each(price.options(retries=0, after=[orders]), (Line(sku="@"),))
        return [orders[0], orders[-1]]

    steps = fan.manifest.steps
    assert steps["many"].for_each == [1, "@steps('load').output.id", "@triggerBody().n"]
    assert steps["many"].steps["load"].inputs == {"note": "x", "order_id": "@item()"}
    assert steps["price"].for_each == [{"sku": "@@", "count": 1, "blob": ""}]
    assert set(steps["price"].run_after) == {"many"}
    assert steps["price"].steps["price"].retry is not None
    assert steps["price"].steps["price"].retry.max_attempts == 1
    assert fan.manifest.output == ["@steps('many').output[0]", "@steps('many').output[-1]"]


def test_the_item_goes_to_the_first_parameter_that_is_not_fixed():
    @flow
    def fan(notes: list[str]) -> None:
        each(load, notes, order_id=1)
        each(save, [Order(id=1)], total=Decimal(1))

    assert fan.manifest.steps["load"].steps["load"].inputs == {"order_id": 1, "note": "@item()"}
    assert fan.manifest.steps["save"].steps["save"].inputs["order"] == "@item()"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda n: each(load, "abc"), "is a str"),
        (lambda n: each(load, 5), "is an int"),
        (lambda n: each(load, n), "is not a list"),
        (lambda n: each(load, ["x"]), "valid integer"),
        (lambda n: each(load, [1], nte="x"), "did you mean `note`?"),
        (lambda n: each(load, [1], order_id=1, note="x"), "no parameter left"),
        (lambda n: each(save, [1]), "missing a required argument: 'total'"),
        (lambda n: each(load, [1], concurrency=0), "concurrency=0"),
        (lambda n: each(load, [1], errors="ignore"), "errors='ignore'"),
        (lambda n: each(load, [1], stop_on_failure=1), "stop_on_failure=1"),
        (lambda n: each(load, [1], errors="collect", stop_on_failure=True), "leave one out"),
        (lambda n: each(load.fn, [1]), "is not a step"),
        (lambda n: each(checkout, ["x"]), "valid integer"),
        (lambda n: each(checkout, [1], factro=1), "flow `checkout`: unknown argument `factro`; did you mean `factor`?"),
        (lambda n: each(checkout, [1], order_id=1, factor=1, at=n), "flow `checkout` has no parameter left"),
        (lambda n: each(checkout, [1], concurrency=0), "concurrency=0"),
        (lambda n: each(BARE, [1]), "flow `bare` was made from a manifest"),
        (lambda n: each(load, [1], key="a b"), "a key has 1 to 100"),
    ],
)
def test_a_wrong_fan_out_is_refused(call, says):
    with pytest.raises(AuthoringError) as caught:

        @flow
        def wrong(n: int) -> None:
            call(n)

    assert says in str(caught.value)


def test_a_fan_out_that_collects_errors_gives_outcomes_and_one_over_nothing_has_no_items():
    @flow
    def tried(names: list[int] | None) -> str | None:
        tries = each(load, names, errors="collect")
        each(load, None, stop_on_failure=True, key="none")
        return tries[0].error.message

    manifest = tried.manifest
    assert (manifest.steps["load"].errors, manifest.steps["none"].errors) == ("collect", "fail")
    assert manifest.steps["load"].for_each == "@triggerBody().names ?? null"
    assert (manifest.steps["none"].for_each, manifest.steps["none"].stop_on_failure) == ([], True)
    assert manifest.output == "@steps('load').output[0].error.message"
    assert Plan.of(manifest).nodes["load"].items == Place(None, ("names",))


def test_each_outside_a_flow_says_what_to_write():
    with pytest.raises(AuthoringError, match="works in a flow body only"):
        each(load, [1])
    with pytest.raises(AuthoringError, match=r"write `\[checkout.fn\(x\) for x in items\]`"):
        each(checkout, [1])


def test_each_runs_a_flow_for_each_item():
    @flow
    def orders(ids: list[int], factor: Decimal) -> list[Any]:
        first = load(1)
        mine = each(checkout, ids, factor=factor, concurrency=2)
        each(checkout.options(key="again", retries=2, after=[first], description="once more"), [first.id, 7])
        return mine

    steps = orders.manifest.steps
    assert json.loads(orders.manifest.to_json())["steps"]["checkout"] == {
        "for_each": "@triggerBody().ids",
        "concurrency": 2,
        "steps": {"run": {"flow": "checkout", "inputs": {"factor": "@triggerBody().factor", "order_id": "@item()"}}},
        "output": "@steps('run').output",
    }
    again = steps["again"].steps["run"]
    assert (again.inputs, again.description) == ({"order_id": "@item()"}, "once more")
    assert again.retry is not None
    assert again.retry.max_attempts == 3
    assert set(steps["again"].run_after) == {"load"}
    assert orders.manifest.output == "@steps('checkout').output"
    assert orders.called == {"checkout": checkout}
    assert Plan.of(orders.manifest).node("checkout.3.run").definition.flow == "checkout"


# ---- errors of flows ----


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: load(), "missing a required argument: 'order_id'"),
        (lambda: load(1, 2, 3), "too many positional arguments"),
        (lambda: load(1, order_id=2), "multiple values for argument 'order_id'"),
        (lambda: load(order_di=1), "unknown argument `order_di`; did you mean `order_id`?"),
        (lambda: load("many"), "argument `order_id` of step `load` does not fit int"),
        (lambda: load(1, note="a\x00"), "NUL character"),
        (lambda: anything(float("nan")), "the number nan"),
        (lambda: anything(object()), "an object of type object"),
        (lambda: save(ctx=Context(), order=Order(id=1), total=1), "given by the worker"),
        (lambda: price.options(priority=11), "priority=11"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: Order(id=load(1).id), "ValidationError"),
        (lambda: Box(load(1).id).width + 1, "calculation"),
        (lambda: anything(Box(load(1).id)), "is a Box that holds a placeholder"),
        (lambda: anything({"k": [Box(load(1).id)]}), "is a Box that holds a placeholder"),
        (lambda: checkout("many"), "argument `order_id` of flow `checkout` does not fit int"),
        (lambda: checkout(), "flow `checkout`: missing a required argument: 'order_id'. Fix: its parameters are"),
        (lambda: helper(1), "helper() missing 1 required positional argument: 'b'. Fix: correct the arguments of that"),
        (lambda: helper(1, 2, c=3), "unexpected keyword argument 'c'. Fix: correct the arguments of that call"),
        (lambda: helper(1, 2, 3), "2 positional arguments but 3 were given. Fix: correct the arguments of that call"),
        (lambda: helper(1, a=3), "multiple values for argument 'a'. Fix: correct the arguments of that call"),
        (lambda: len(3), "has no len(). Fix: the body is only traced"),
        (lambda: flow(lambda: None), "in the body of another flow"),
    ],
)
def test_an_error_in_a_flow_body_names_file_and_line(call, says):
    with pytest.raises(AuthoringError) as caught:

        @flow
        def wrong() -> None:
            call()

    assert says in str(caught.value)
    line = int(str(caught.value).removeprefix(f"{__file__}:").partition(":")[0])
    assert abs(line - call.__code__.co_firstlineno) <= 1


def test_a_placeholder_of_another_flow_is_refused():
    kept = []

    @flow
    def first() -> None:
        kept.append(load(1))

    with pytest.raises(AuthoringError, match="of another flow"):

        @flow
        def second() -> None:
            anything(kept[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "a b"}, "name: "),
        ({"deadline": "soon"}, "deadline: 'soon' is not a length of time"),
        ({"versoin": "2"}, "did you mean `version`?"),
        ({"tags": "abc"}, "write `tags=['abc']`"),
        ({"queue": ""}, "queue: "),
    ],
)
def test_a_bad_flow_option_is_named(options, says):
    with pytest.raises(AuthoringError) as caught:

        @flow(**options)
        def wrong() -> None: ...

    assert says in str(caught.value)
    assert __file__ in str(caught.value)


def test_what_cannot_be_a_flow():
    async def asynchronous() -> None: ...
    def with_context(ctx: Context) -> None: ...
    def with_stars(*numbers: int) -> None: ...
    def with_wrong_default(n: int = "x") -> None: ...  # type: ignore[assignment]
    def with_wrong_result() -> int:
        return "x"  # type: ignore[return-value]

    for one in (asynchronous, with_context, with_stars, with_wrong_default, with_wrong_result):
        with pytest.raises(AuthoringError, match=f"{__file__}:{one.__code__.co_firstlineno}: "):
            flow(one)


def test_calling_a_flow_says_how_to_start_a_run():
    with pytest.raises(AuthoringError, match=r"Client\.start"):
        checkout(order_id=1)


# ---- flows as data ----


def _data(**inputs: Any) -> Manifest:
    return Manifest(
        name="data",
        steps={"a": {"type": "load", "inputs": inputs}},
        input_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    )


def test_a_manifest_with_its_steps_is_a_flow():
    made = Flow.from_manifest(_data(order_id="@triggerBody().n"), steps=[load, price])
    assert made.name == "data"
    assert made.handlers["load"] is load
    assert made.encode_input({"n": 1}) == '{"n":1}'
    assert made.decode_output({"x": 1}) == {"x": 1}
    for wrong in ({}, {"n": "x"}, {"n": 1, "m": float("nan")}):
        with pytest.raises(InputInvalid):
            made.encode_input(wrong)


@pytest.mark.parametrize(
    ("inputs", "steps", "says"),
    [
        ({"order_id": 1}, [price], "unknown type `load`"),
        ({}, [load], "needs the input `order_id`"),
        ({"order_id": 1, "nte": 2}, [load], "has no input `nte` (did you mean `note`?)"),
    ],
)
def test_a_manifest_that_does_not_fit_its_steps_is_refused(inputs, steps, says):
    with pytest.raises(ManifestInvalid) as caught:
        Flow.from_manifest(_data(**inputs), steps=steps)
    assert says in str(caught.value)


# ---- context ----


def test_the_context_tells_and_takes():
    ctx = Context("run1", "loop.3.price", 2)
    assert ctx.idempotency_key == "run1:loop.3.price"
    save.fn(ctx, Order(id=1), Decimal(1))
    assert ctx.signals.progress is not None
    assert (ctx.signals.progress.done, ctx.signals.progress.total, ctx.signals.progress.note) == (1, 2, "half")
    ctx.progress(3, note="x\x00" * 1000)
    assert len(ctx.signals.progress.note) == 500
    assert not ctx.cancelled
    ctx.signals.cancel.set()
    assert ctx.cancelled
    with pytest.raises(NotTransactional, match="transactional=True"):
        _ = ctx.tx
    assert ctx.log.extra == {"run_id": "run1", "step_key": "loop.3.price", "attempt": 2}


def test_the_package_exports_what_it_says():
    lazy = {"AsyncClient", "Client", "RunHandle", "Settings"}
    for name in set(orchestrator.__all__) - lazy:
        assert hasattr(orchestrator, name), name
    assert lazy <= set(dir(orchestrator))
    assert Step is orchestrator.Step
    with pytest.raises(AttributeError):
        _ = orchestrator.Nonsense  # type: ignore[attr-defined]


def test_a_retired_step_has_a_handler_and_no_place_in_the_graph() -> None:
    """For runs of versions that had it; the manifest is the same with it and without it."""

    @step
    def kept(n: int) -> int:
        return n

    @step(queue="slow")
    def gone(n: int) -> int:
        return n

    def short(n: int) -> int:
        return kept(n)

    without_it, with_it = flow(short), flow(retired=[gone])(short)
    assert with_it.manifest.hash == without_it.manifest.hash
    assert sorted(with_it.handlers) == ["gone", "kept"]
    assert sorted(with_it.retired) == ["gone"]
    assert sorted(without_it.handlers) == ["kept"]


def test_what_is_called_is_not_retired() -> None:
    @step
    def kept(n: int) -> int:
        return n

    with pytest.raises(AuthoringError, match="calls step `kept`, which is in `retired`"):

        @flow(retired=[kept])
        def calling(n: int) -> int:
            return kept(n)

    with pytest.raises(AuthoringError, match="in `retired`"):

        @flow(retired=[len])  # type: ignore[list-item]
        def wrong(n: int) -> int:
            return kept(n)
