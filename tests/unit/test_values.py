"""Values go to JSON text and back exactly; what JSON in the ledger cannot hold is refused with its path."""

import dataclasses
import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, computed_field
from typing_extensions import TypedDict

from orchestrator.core.values import Codec, dumps, explain, loads, show_path
from orchestrator.errors import ValueRefused


class Colour(Enum):
    RED = "red"
    BLUE = 2


class Size(StrEnum):
    S = "s"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: float


class Address(TypedDict, total=False):
    street: str
    blob: bytes


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=False)
    sku: str = Field(alias="SKU")
    price: Decimal
    blob: bytes = b""
    weight: float = 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gross(self) -> Decimal:
        return self.price * 2


@dataclasses.dataclass
class Order:
    lines: list[Line]
    at: datetime
    tree: "Order | None" = None
    raw: bytes = b""


EXACT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
CASES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (int, st.integers(-(10**60), 10**60)),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "str": (str, EXACT),
    "bytes": (bytes, st.binary(max_size=40)),
    "bytearray in a list": (list[bytes], st.lists(st.binary(max_size=8))),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "datetime": (datetime, st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=30))]))),
    "naive datetime": (datetime, st.datetimes()),
    "date": (date, st.dates()),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas(timedelta(days=-99_999), timedelta(days=99_999))),
    "uuid": (UUID, st.uuids()),
    "enum": (Colour, st.sampled_from(Colour)),
    "str enum": (Size, st.sampled_from(Size)),
    "int enum": (Level, st.sampled_from(Level)),
    "literal": (Literal["a", 1], st.sampled_from(["a", 1])),
    "set": (set[int], st.sets(st.integers())),
    "frozenset": (frozenset[str], st.frozensets(EXACT)),
    "tuple": (tuple[int, str, None], st.tuples(st.integers(), EXACT, st.none())),
    "named tuple": (Point, st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False))),
    "optional": (int | None, st.none() | st.integers()),
    "dict with int keys": (dict[int, list[bytes]], st.dictionaries(st.integers(), st.lists(st.binary()), max_size=3)),
    "typed dict": (Address, st.fixed_dictionaries({}, optional={"street": EXACT, "blob": st.binary()})),
    "path": (Path, st.sampled_from([Path("/a/b"), Path("c"), Path(".")])),
    "any": (Any, st.recursive(st.none() | st.booleans() | st.integers() | EXACT, lambda x: st.lists(x), max_leaves=5)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_value_comes_back_exactly(case):
    kind, values = CASES[case]
    codec = Codec(kind)

    @given(values)
    def check(value):
        back = codec.loads(codec.dumps(value))
        assert back == value
        assert type(back) is type(value)

    check()


def test_classes_in_classes_come_back_exactly():
    """Bytes in a model in a dataclass follow our rule (base64), not pydantic's default (UTF-8 only)."""
    line = Line(SKU="x", price=Decimal("1.10"), blob=b"\xff\x00")
    order = Order([line], datetime.now(UTC), tree=Order([], datetime(2024, 1, 1, tzinfo=UTC), raw=b"\xfe"), raw=b"\xfd")
    codec = Codec(list[Order])
    text = codec.dumps([order])
    assert codec.loads(text) == [order]
    assert "1.10" in text
    assert "gross" not in text  # a computed field would not be taken back
    assert '"sku"' in text  # names, not aliases: references use names


def test_aliases_are_read_too():
    assert Codec(Line).loads('{"SKU":"x","price":"1"}').sku == "x"


def test_a_models_own_json_rules_win():
    class Hexed(BaseModel):
        model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")
        raw: bytes

    codec = Codec(Hexed)
    assert codec.dumps(Hexed(raw=b"\xff")) == '{"raw":"ff"}'
    assert codec.loads('{"raw":"ff"}').raw == b"\xff"


def test_output_is_checked_not_only_written():
    with pytest.raises(ValidationError):
        Codec(int).dumps("many")
    assert Codec(Line).dumps({"SKU": "x", "price": "2"}).startswith('{"sku":"x"')
    broken = Line.model_construct(sku="x", price="no number")
    with pytest.raises((ValidationError, ValueRefused)):
        Codec(Line).dumps(broken)


def _order(**changes: Any) -> dict[str, Any]:
    return {"orders": [{"note": "fine"}, {"note": "fine", **changes}]}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (_order(note="a\x00b"), "orders[1].note"),
        (_order(note="\ud800"), "orders[1].note"),
        (_order(n=math.nan), "orders[1].n"),
        (_order(n=[1, -math.inf]), "orders[1].n[1]"),
        (_order(**{"a b": object()}), "orders[1]['a b']"),
        ({"a\x00": 1}, "['a\\x00']"),
        ({"a": {"\udc00": 1}}, "a['\\udc00']"),
        (math.nan, ""),
    ],
)
@pytest.mark.parametrize("write", [dumps, Codec(Any).dumps, Codec(object).dumps])
def test_what_json_cannot_hold_is_refused_with_its_path(write, value, path):
    with pytest.raises(ValueRefused, match="Fix: ") as caught:
        write(value)
    assert caught.value.path == path
    str(caught.value).encode()  # the message itself can be logged


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_inside_a_model_is_noticed_not_nulled(bad):
    codec = Codec(list[Line])
    with pytest.raises(ValueRefused) as caught:
        codec.dumps([Line(SKU="x", price=Decimal(1)), Line(SKU="x", price=Decimal(1), weight=bad)])
    assert caught.value.path == "[1].weight"


def test_texts_that_only_look_suspicious_pass():
    for text in ("NaN", "Infinity", "\\u0000", "\\ud800", "-Infinity \\\\u0000"):
        assert loads(dumps([text])) == [text]
        assert Codec(list[str]).loads(Codec(list[str]).dumps([text])) == [text]


@pytest.mark.parametrize("write", [dumps, Codec(Any).dumps])
def test_a_number_that_python_would_not_read_back_is_refused_with_its_path(write):
    longest = {"n": [10**4300 - 1, 1 - 10**4300], "text": "9" * 20_000, "many": list(range(5000))}
    assert loads(write(longest)) == longest
    for wrong in (10**4300, -(10**4300), 10**20_000):
        with pytest.raises(ValueRefused, match=r"^rows\[1\]\.n is a number of more than 4,300 digits"):
            write({"text": "x" * 2150, "rows": [1, {"n": wrong}]})


def test_a_surrogate_in_a_typed_text_is_refused_with_its_path():
    with pytest.raises(ValueRefused) as caught:
        Codec(dict[str, str]).dumps({"k": "\ud800"})
    assert caught.value.path == "k"


def test_structures_that_hold_themselves_or_are_too_deep_are_refused():
    ring: list[Any] = []
    ring.append(ring)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (ring, deep):
        for write in (dumps, Codec(Any).dumps):
            with pytest.raises(ValueRefused):
                write(value)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "nul", "[" * 100_000])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(ValueRefused):
        loads(text)


@given(st.recursive(st.none() | st.integers() | EXACT, lambda x: st.dictionaries(EXACT, x, max_size=3), max_leaves=6))
def test_plain_json_comes_back_exactly(value):
    text = dumps(value)
    assert loads(text) == value
    text.encode()


def test_explain_names_all_that_does_not_fit():
    with pytest.raises(ValidationError) as caught:
        Codec(dict[str, list[int]]).loads('{"a":[1,"x"],"b":3}')
    path, text = explain(caught.value)
    assert path == "a[1]"
    assert "b: Input should be a valid" in text
    assert "got 'x'" in text


class Event(BaseModel):
    id: int


class Payment(Event):
    amount: int


class Renamed(Event):
    """Adds nothing that is stored."""

    def twice(self) -> int:
        return self.id * 2


@dataclasses.dataclass
class Parcel:
    id: int


@dataclasses.dataclass
class Insured(Parcel):
    value: int
    kind: ClassVar[str] = "insured"


@dataclasses.dataclass
class Marked(Parcel):
    kind: ClassVar[str] = "marked"


class Envelope(BaseModel):
    event: Event
    more: list[Event | None] = []


PAYMENT, INSURED = Payment(id=1, amount=500), Insured(id=1, value=9)


@pytest.mark.parametrize(
    ("kind", "value", "path"),
    [
        (Event, PAYMENT, "amount"),
        (list[Event], [Event(id=0), PAYMENT], "[1].amount"),
        (dict[str, tuple[int, Event]], {"x": (1, PAYMENT)}, "x[1].amount"),
        (Event | None, PAYMENT, "amount"),
        (Event | Parcel, PAYMENT, "amount"),
        (Envelope, Envelope(event=PAYMENT), "event.amount"),
        (Envelope, Envelope(event=Event(id=0), more=[None, PAYMENT]), "more[1].amount"),
        (Parcel, INSURED, "value"),
        (list[Parcel | None], [INSURED], "[0].value"),
    ],
)
def test_fields_that_only_a_subclass_has_are_refused_and_not_dropped(kind, value, path):
    with pytest.raises(ValueRefused) as caught:
        Codec(kind).dumps(value)
    assert caught.value.path == path
    assert "only a subclass of the declared class has, and would be lost. Fix: name the subclass" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Event | Payment, PAYMENT, '{"id":1,"amount":500}'),
        (Payment | Event, PAYMENT, '{"id":1,"amount":500}'),
        (list[SerializeAsAny[Event]], [PAYMENT], '[{"id":1,"amount":500}]'),
        (Event, Renamed(id=1), '{"id":1}'),
        (Parcel | Insured, INSURED, '{"id":1,"value":9}'),
        (Parcel, Marked(id=1), '{"id":1}'),
        (Any, [PAYMENT], '[{"id":1,"amount":500}]'),
    ],
)
def test_a_subclass_is_kept_where_nothing_is_lost(kind, value, text):
    assert Codec(kind).dumps(value) == text


class Basket(BaseModel):
    prices: Iterable[int]


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (Iterable[int], (n for n in (1, 2)), [1, 2]),
        (Iterable, [1, "a"], [1, "a"]),
        (tuple[str, Iterable[int]], ("a", {1: 1, 2: 2}.keys()), ("a", [1, 2])),
        (dict[str, Iterable[float]], {"x": (1.5,)}, {"x": [1.5]}),
        (Iterable[int] | None, [1], [1]),
    ],
)
def test_an_iterable_is_read_as_a_list(kind, value, read):
    codec = Codec(kind)
    assert codec.loads(codec.dumps(value)) == read


def test_an_iterable_in_a_model_is_read_as_a_list():
    codec = Codec(Basket)
    again = codec.loads(codec.dumps(Basket(prices=[1, 2])))
    assert again.prices == [1, 2]
    assert sum(again.prices) == sum(again.prices) == 3


def test_a_type_without_a_json_form_is_refused():
    class Opaque:
        pass

    with pytest.raises(ValueRefused, match="No JSON form"):
        Codec(Opaque)


def test_paths_read_well():
    assert show_path(("orders", 3, "note", "a b", 0)) == "orders[3].note['a b'][0]"
