"""Conditions while a body is traced: what is written for them, and which are refused, with both types."""

import enum
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel

from orchestrator import (
    all_of,
    any_of,
    contains,
    flow,
    header,
    is_null,
    none_of,
    step,
    when,
)
from orchestrator.core.expressions import Scope, evaluate, parse_bare
from orchestrator.errors import AuthoringError


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Order(BaseModel):
    total: int
    price: Decimal
    ratio: float = 1.0
    name: str
    vip: bool = False
    tags: list[str] = []
    prices: list[Decimal] = []
    at: datetime
    aware: AwareDatetime
    day: date
    id: UUID
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    kind: Literal["a", "b"] = "a"
    limit: Decimal | None = None
    floor: Decimal | None = None
    maybe: bool | None = None
    note: str | None = None
    raw: Any = None
    mixed: int | str = 0
    child: "Order | None" = None


@step
def load(n: int = 0) -> Order: ...  # type: ignore[empty-body]


@step
def work(value: Any = None) -> None: ...


def condition(make: Any) -> str:
    """The `when` that a body gets from `make(order)`."""

    @flow
    def sample(order: Order) -> None:
        work.options(when=make(order))()

    found = sample.manifest.steps["work"].when
    assert found is not None
    return found.replace("@triggerBody().order.", "@")


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ID = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda o: o.total > 1000, "@total > 1000"),
        (lambda o: 1000 < o.total, "@total > 1000"),  # noqa: SIM300
        (lambda o: o.total >= -1, "@total >= -1"),
        (lambda o: o.total == 1.5, "@total == 1.5"),
        (lambda o: o.total != o.ratio, "@total != @ratio"),
        (lambda o: o.name == "it's", "@name == 'it''s'"),
        (lambda o: o.name < "m", "@name < 'm'"),
        (lambda o: o.price > 1000, "number(@price) > 1000"),
        (lambda o: o.price == Decimal("0.10"), "number(@price) == 0.10"),
        (lambda o: o.price > o.total, "number(@price) > number(@total)"),
        (lambda o: o.at < NOON, "time(@at) < time('2026-01-01T12:00:00+00:00')"),
        (lambda o: o.aware <= o.at, "time(@aware) <= time(@at)"),
        (lambda o: o.day >= date(2026, 1, 2), "@day >= '2026-01-02'"),
        (lambda o: o.id == ID, f"@id == '{ID}'"),
        (lambda o: o.colour == Colour.RED, "@colour == 'red'"),
        (lambda o: o.level == Level.LOW, "@level == 1"),
        (lambda o: o.kind == "a", "@kind == 'a'"),
        (lambda o: o.note == "x", "@note == 'x'"),
        (lambda o: o.note == None, "@note == null"),  # noqa: E711
        (lambda o: o.limit == 3, "@limit != null && number(@limit) == 3"),
        (lambda o: o.limit != 3, "@limit == null || number(@limit) != 3"),
        (lambda o: o.limit > 3, "number(@limit) > 3"),
        (lambda o: is_null(o.limit), "@limit == null"),
        (lambda o: is_null(o.child), "@child == null"),
        (lambda o: ~is_null(o.child.total), "!(@child.total == null)"),
        (lambda o: o.maybe == True, "@maybe == true"),  # noqa: E712
        (lambda o: o.raw == 3, "@raw == 3"),
        (lambda o: o.raw.deep > Decimal(3), "number(@raw.deep) > 3"),
        (lambda o: o.mixed == "x", "@mixed == 'x'"),
        (lambda o: o.vip, "@vip"),
        (lambda o: ~o.vip, "!@vip"),
        (lambda o: o.vip & (o.total > 1), "@vip && @total > 1"),
        (lambda o: (o.total > 1) & o.vip & o.raw, "@total > 1 && @vip && @raw"),
        (lambda o: (o.total > 1) | (o.total < 0) & o.vip, "@total > 1 || @total < 0 && @vip"),
        (lambda o: ~((o.total > 1) | o.vip), "!(@total > 1 || @vip)"),
        (lambda o: (o.total > 1) == o.vip, "(@total > 1) == @vip"),
        (lambda o: (o.total > 1) != (o.total < 9), "(@total > 1) != (@total < 9)"),
        (lambda o: all_of(o.total > 1, o.vip), "@total > 1 && @vip"),
        (lambda o: all_of(o.vip), "@vip"),
        (lambda o: any_of(o.total > 1, o.vip), "@total > 1 || @vip"),
        (lambda o: none_of(o.total > 1, o.vip), "!(@total > 1 || @vip)"),
        (lambda o: contains(o.tags, "vip"), "contains(@tags, 'vip')"),
        (lambda o: contains(o.tags, o.name), "contains(@tags, @name)"),
        (lambda o: contains(o.name, "x"), "contains(@name, 'x')"),
        (lambda o: contains("abc", o.name), "contains('abc', @name)"),
        (lambda o: contains(o.raw, 3), "contains(@raw, 3)"),
        (lambda o: contains(["a", "b"], o.name), "@name == 'a' || @name == 'b'"),
        (lambda o: contains([1, o.level], o.total), "@total == 1 || @total == @level"),
        (lambda o: header("X-Kind") == "big", "@triggerHeaders()['x-kind'] == 'big'"),
    ],
)
def test_what_is_written_for_a_condition(make: Any, text: str) -> None:
    assert condition(make) == text


VALUES = {
    "total": 1001,
    "price": "1000.10",
    "ratio": 0.5,
    "name": "ann",
    "vip": True,
    "tags": ["vip"],
    "note": None,
    "at": "2026-01-01T11:00:00Z",
    "day": "2026-01-01",
    "limit": None,
    "raw": "7",
    "maybe": None,
}


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda o: o.total > 1000, True),
        (lambda o: o.price > o.total, False),
        (lambda o: o.price == Decimal("1000.1"), True),
        (lambda o: o.at < NOON, True),
        (lambda o: o.at < datetime.fromisoformat("2026-01-01T13:30:00+02:00"), True),
        (lambda o: o.day < date(2026, 1, 1), False),
        (lambda o: o.limit == 3, False),
        (lambda o: o.limit != 3, True),
        (lambda o: is_null(o.limit) & contains(o.tags, "vip"), True),
        (lambda o: none_of(o.name == "bob", o.total == 0), True),
        (lambda o: o.raw > Decimal(3), True),
        (lambda o: o.maybe == True, False),  # noqa: E712
    ],
)
def test_it_means_what_python_would_mean(make: Any, holds: bool) -> None:
    expr = parse_bare(condition(make).replace("@", "@triggerBody()."))
    assert evaluate(expr, Scope(trigger=VALUES)) is holds


@pytest.mark.parametrize(
    ("make", "says", "fix"),
    [
        (lambda o: o.total == "x", "`order`.total is of type int and 'x' is of type str", "of one type"),
        (lambda o: o.price == "1", "is of type Decimal and '1' is of type str", "of one type"),
        (lambda o: o.at < "2026", "is of type datetime", "of one type"),
        (lambda o: o.at < date(2026, 1, 1), "never alike", "of one type"),
        (lambda o: o.day < o.at, "never alike", "of one type"),
        (lambda o: o.at < datetime(2026, 1, 1), "has no zone", "tzinfo=UTC"),  # noqa: DTZ001
        (lambda o: o.id == str(ID), "is of type UUID and", "of one type"),
        (lambda o: o.id < ID, "has no order", "`==` or `!=`"),
        (lambda o: o.vip > o.vip, "has no order", "`==` or `!=`"),
        (lambda o: o.vip == 1, "never alike", "of one type"),
        (lambda o: o.limit > None, "None was compared by order", "is_null"),
        (lambda o: o.limit == o.floor, "both may be None", "in a step"),
        (lambda o: o.tags == o.tags, "which a condition does not compare", "in a step"),
        (lambda o: o.tags == ["a"], "a list was compared", "compare a field of it"),
        (lambda o: o.total == float("nan"), "JSON has no such number", "in a step"),
        (lambda o: o.child == o, "which a condition does not compare", "in a step"),
        (lambda o: o.total, "is of type int, which is not a condition", "compare it, such as"),
        (lambda o: o.maybe, "which is not a condition", "`== True`"),
        (lambda o: 3, "3 is of type int, which is not a condition", "compare it"),
        (lambda o: True, "a condition is True already", "plain `if`"),
        (lambda o: (o.total > 1) & 1, "1 is of type int, which is not a condition", "compare it"),
        (lambda o: 1 & (o.total > 1), "1 is of type int, which is not a condition", "compare it"),
        (
            lambda o: (o.total > 1) and o.vip,
            "the condition `@triggerBody().order.total > 1` was asked",
            "instead of `and`",
        ),
        (lambda o: not (o.total > 1), "was asked whether it is true (if, while", "`~` instead of `not`"),
        (lambda o: 1 < o.total < 5, "was asked whether it is true", "all_of(a > 1, b < 2)"),
        (lambda o: o.name in ["a", "b"], "was asked whether it is true", "instead of `and`"),
        (lambda o: "vip" in o.tags, "was searched with `in`", "contains(order.tags, 'vip')"),
        (lambda o: (o.total > 1) + 1, "was used in a calculation", "in a step"),
        (lambda o: f"{o.total > 1}", "was turned into text", "build the text there"),
        (lambda o: {o.total > 1}, "was put in a set", "use a list"),
        (lambda o: (o.total > 1)(), "was called", "in a step"),
        (
            lambda o: contains(o.tags, 3),
            "looks for what it cannot hold: 3 is of type int, among values of type text",
            "one of those",
        ),
        (lambda o: contains(o.prices, Decimal(1)), "which `contains` does not find", "in a step"),
        (lambda o: contains(o.total, 1), "is not a list", "give a list or a text"),
        (lambda o: contains(3, 1), "`contains` got an int to look in", "give a list or a text"),
        (lambda o: contains([], o.name), "an empty list", "at least one"),
        (lambda o: contains(["a"], "a"), "known now", "what in where"),
        (lambda o: contains([1], o.name), "never alike", "of one type"),
        (lambda o: is_null(None), "known now", "a step's result"),
        (lambda o: all_of(), "`all_of` got no condition", "at least one"),
        (lambda o: any_of(o.total), "not a condition", "compare it"),
        (lambda o: header(3), "`header` got 3", "give the name"),
        (lambda o: header("Authorization") == "x", "the header `Authorization` is never kept", "as an input"),
        (lambda o: header("") == "x", "`header` got ''", "give the name"),
    ],
)
def test_what_is_not_a_condition_is_refused_with_its_types(make: Any, says: str, fix: str) -> None:
    with pytest.raises(AuthoringError) as caught:
        condition(make)
    assert says in caught.value.message
    assert fix in caught.value.message
    assert caught.value.file == __file__


def test_a_condition_that_nothing_depends_on_is_an_error_at_its_line() -> None:
    with pytest.raises(AuthoringError) as caught:

        @flow
        def sample(order: Order) -> None:
            work()
            order.total > 1000  # noqa: B015

    assert "the condition `@triggerBody().order.total > 1000` is made here, and nothing depends on it" in str(
        caught.value
    )
    assert "with when" in str(caught.value)
    assert caught.value.line == sample_line("order.total > 1000  #")


def sample_line(text: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(text))


@pytest.mark.parametrize("use", [lambda o: when(o.total > 1), lambda o: work.options(when=o.total > 1)])
def test_a_block_that_is_not_opened_and_an_option_that_is_not_called_are_forgotten_conditions(use: Any) -> None:
    with pytest.raises(AuthoringError, match="nothing depends on it"):

        @flow
        def sample(order: Order) -> None:
            use(order)


@pytest.mark.parametrize(
    "make", [lambda o: o.total > 1, lambda o: [o.total > 1], lambda o: {"a": o.vip & o.vip}, lambda o: (o.raw == 1,)]
)
def test_a_condition_is_no_value_of_a_step(make: Any) -> None:
    def sample(order: Order) -> None:
        work(make(order))

    with pytest.raises(AuthoringError, match=r"is the condition .* Fix: pass the values themselves"):
        flow(sample)


def test_values_of_another_flow_and_after_the_trace_are_refused() -> None:
    kept: list[Any] = []

    @flow
    def first(order: Order) -> None:
        kept.append(order)

    with pytest.raises(AuthoringError, match="outside of its flow's body"):
        kept[0].total > 1  # noqa: B015
    with pytest.raises(AuthoringError, match="of another flow was compared"):

        @flow
        def second(order: Order) -> None:
            work.options(when=order.total > kept[0].total)()


@pytest.mark.parametrize(
    "call",
    [lambda: when(True), lambda: contains([1], 1), lambda: is_null(3), lambda: all_of(True), lambda: header("x")],
)
def test_outside_of_a_body_there_is_nothing_to_condition(call: Any) -> None:
    with pytest.raises(AuthoringError, match="works in a flow body only"):
        call()


def test_a_condition_reads_results_and_waits_for_them() -> None:
    @flow
    def sample() -> None:
        order = load()
        work.options(when=order.price > 10)()
        work.options(key="label")(header("X-Request-Id"))

    steps = sample.manifest.steps
    assert steps["work"].when == "number(@steps('load').output.price) > 10"
    assert list(steps["work"].run_after) == ["load"]
    assert steps["label"].inputs == {"value": "@triggerHeaders()['x-request-id']"}
    assert sample.manifest.format == 2
