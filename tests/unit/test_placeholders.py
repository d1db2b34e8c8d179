"""A placeholder can be passed on, whole or in parts; every other use is an error that says what to write."""

import copy
import dataclasses
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, NamedTuple, NewType, TypeVar

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field
from typing_extensions import TypedDict

from orchestrator import flow, step
from orchestrator.authoring import kinds
from orchestrator.errors import AuthoringError

T = TypeVar("T")


class Inner(BaseModel):
    name: str
    tags: list[str] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.tags)

    def method(self) -> None: ...


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int = 0


class Root(RootModel[list[Inner]]): ...


class Typed(TypedDict):
    inner: Inner


class Pair(NamedTuple):
    left: int
    right: Inner


@dataclasses.dataclass
class Holder(Generic[T]):
    held: T
    pair: Pair
    untyped: Any = None


Alias = NewType("Alias", Inner)


class Everything(BaseModel):
    inner: Inner
    maybe: Inner | None = None
    either: Inner | int | None = None
    noted: Annotated[Inner, Field(description="x")]
    alias: Alias
    many: list[Inner]
    sequence: Sequence[Inner] = ()
    by_name: dict[str, Inner]
    mapping: Mapping[int, Inner] = {}
    typed: Typed
    pair: tuple[int, Inner]
    same: tuple[Inner, ...] = ()
    named: Pair
    holder: Holder[Inner]
    root: Root
    open: Open
    bag: set[int] = set()
    queue: deque[int] = deque()
    raw: Any = None
    bare: list = []  # type: ignore[type-arg]
    text: str = ""


@step
def make(n: int = 0) -> Everything: ...  # type: ignore[empty-body]


@step
def take(value: Any) -> None: ...


def traced(use):
    """The reference that `use` makes of the result of a step."""

    @flow
    def sample() -> None:
        take(use(make()))

    return sample.manifest.steps["take"].inputs["value"]


OUT = "@steps('make').output"


@pytest.mark.parametrize(
    ("use", "path"),
    [
        (lambda x: x, ""),
        (lambda x: x.inner.name, ".inner.name"),
        (lambda x: x.maybe.name, ".maybe.name"),
        (lambda x: x.either.name, ".either.name"),
        (lambda x: x.noted.tags[0], ".noted.tags[0]"),
        (lambda x: x.alias.name, ".alias.name"),
        (lambda x: x.many[-1].name, ".many[-1].name"),
        (lambda x: x.sequence[0].name, ".sequence[0].name"),
        (lambda x: x.by_name["a b"].name, ".by_name['a b'].name"),
        (lambda x: x.mapping[3].name, ".mapping[3].name"),
        (lambda x: x.typed["inner"].name, ".typed.inner.name"),
        (lambda x: x.typed.inner.name, ".typed.inner.name"),
        (lambda x: x.pair[1].name, ".pair[1].name"),
        (lambda x: x.same[7].name, ".same[7].name"),
        (lambda x: x.named.right.name, ".named[1].name"),  # JSON holds a named tuple as a list
        (lambda x: x.named[0], ".named[0]"),
        (lambda x: x.holder.held.name, ".holder.held.name"),
        (lambda x: x.holder.pair.left, ".holder.pair[0]"),
        (lambda x: x.holder.untyped.any.thing[3], ".holder.untyped.any.thing[3]"),
        (lambda x: x.root.root[0].name, ".root[0].name"),
        (lambda x: x.open.unknown.deep, ".open.unknown.deep"),
        (lambda x: x.queue[0], ".queue[0]"),
        (lambda x: x.raw["k"][0].z, ".raw.k[0].z"),
        (lambda x: x.bare[0].z, ".bare[0].z"),
        (copy.copy, ""),
        (copy.deepcopy, ""),
    ],
)
def test_attributes_and_items_extend_the_path(use, path):
    assert traced(use) == OUT + path


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda x: x.iner, "did you mean `inner`?"),
        (lambda x: x.inner.nmae, "did you mean `name`?"),
        (lambda x: x.inner.size, "`size` of Inner is computed"),
        (lambda x: x.inner.method, "`method` of Inner is computed"),
        (lambda x: x.inner["name"], "write `.name`"),
        (lambda x: x.maybe.nmae, "did you mean `name`?"),
        (lambda x: x.typed["iner"], "did you mean `inner`?"),
        (lambda x: x.holder.hold, "did you mean `held`?"),
        (lambda x: x.pair[2], "has 2 items"),
        (lambda x: x.pair["a"], "whole number"),
        (lambda x: x.many["a"], "has no item 'a'"),
        (lambda x: x.many[1:2], "a slice"),
        (lambda x: x.many[True], "type bool"),
        (lambda x: x.many[1.0], "type float"),
        (lambda x: x.many.append, "has no fields"),
        (lambda x: x.by_name.get, "has no fields"),
        (lambda x: x.bag[0], "has no order"),
        (lambda x: x.text.upper(), "a str has no fields"),
        (lambda x: x.text[0], "is not a list"),
        (lambda x: x.root[0], "has fields, not items"),
    ],
)
def test_a_part_that_is_not_there_is_named(use, says):
    with pytest.raises(AuthoringError) as caught:
        traced(use)
    assert says in str(caught.value)
    assert "the result of step `make`" in str(caught.value)


def _if(x):
    if x:
        return 1
    return 2


def _for(x):
    for _ in x:
        pass


def _assign(x):
    x.name = 1


def _assign_item(x):
    x["name"] = 1


def _delete(x):
    del x.inner


def _delete_item(x):
    del x[0]


def _with(x):
    with x:
        pass


def _unpack(x):
    a, _b = x
    return a


def _augment(x):
    x += 1
    return x


async def _awaiting(x):
    await x


def _await(x):
    _awaiting(x).send(None)


MISUSE = {
    "if": (_if, "write `with when(order.total > 1000):`"),
    "not": (lambda x: not x, "write `with when(order.total > 1000):`"),
    "and": (lambda x: x and 1, "write `with when(order.total > 1000):`"),
    "bool": (bool, "write `with when(order.total > 1000):`"),
    "==": (lambda x: x == 1, "compare values of one type"),
    "!=": (lambda x: x != 1, "compare values of one type"),
    "reflected ==": (lambda x: 1 == x, "compare values of one type"),  # noqa: SIM300
    "<": (lambda x: x < 1, "compare values of one type"),
    ">=": (lambda x: 1 >= x, "compare values of one type"),  # noqa: SIM300
    "in": (lambda x: 1 in x, "write `with when(contains(order.tags, 'vip')):`"),
    "in a list": (lambda x: x in [1], "compare values of one type"),
    "for": (_for, "each(step, items)"),
    "comprehension": (lambda x: [y for y in x], "each(step, items)"),  # noqa: C416
    "star": (lambda x: [*x], "each(step, items)"),
    "unpack": (_unpack, "write `x[0], x[1]`"),
    "list": (list, "each(step, items)"),
    "reversed": (lambda x: list(reversed(x)), "each(step, items)"),
    "len": (len, "in a step"),
    "f-string": (lambda x: f"{x}", "build the text there"),
    "f-string with format": (lambda x: f"{x:>10}", "build the text there"),
    "f-string with repr": (lambda x: f"{x!r}", "build the text there"),
    "percent": (lambda x: "%s" % x, "build the text there"),  # noqa: UP031
    "format": (lambda x: "{}".format(x), "build the text there"),  # noqa: UP032
    "str": (str, "build the text there"),
    "text of a list": (lambda x: str([x]), "build the text there"),
    "text + x": (lambda x: "a" + x, "calculation in a step"),
    "+": (lambda x: x + 1, "calculation in a step"),
    "1 -": (lambda x: 1 - x, "calculation in a step"),
    "*": (lambda x: x * 2, "calculation in a step"),
    "/": (lambda x: x / 2, "calculation in a step"),
    "//": (lambda x: 2 // x, "calculation in a step"),
    "%": (lambda x: x % 2, "calculation in a step"),
    "**": (lambda x: x**2, "calculation in a step"),
    "@": (lambda x: x @ x, "calculation in a step"),
    "|": (lambda x: x | 1, "compare it"),
    "~": (lambda x: ~x, "compare it"),
    "-x": (lambda x: -x, "calculation in a step"),
    "+=": (_augment, "calculation in a step"),
    "abs": (abs, "calculation in a step"),
    "round": (round, "calculation in a step"),
    "divmod": (lambda x: divmod(1, x), "calculation in a step"),
    "floor": (math.floor, "calculation in a step"),
    "int": (int, "calculation in a step"),
    "float": (float, "calculation in a step"),
    "index": (lambda x: [1][x], "calculation in a step"),
    "range": (lambda x: range(x), "calculation in a step"),
    "hash": (hash, "use a list"),
    "set": (lambda x: {x}, "use a list"),
    "key": (lambda x: {x: 1}, "use a list"),
    "call": (lambda x: x(), "call it in a step"),
    "set attribute": (_assign, "return the new value"),
    "set item": (_assign_item, "return the new value"),
    "delete": (_delete, "return the new value"),
    "delete item": (_delete_item, "return the new value"),
    "with": (_with, "in one step"),
    "await": (_await, "leave `await` out"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_a_use_that_needs_a_value_says_what_to_write(case):
    """The line is the user's, so that an editor can jump to it."""
    use, says = MISUSE[case]
    with pytest.raises(AuthoringError) as caught:
        traced(use)
    assert says in str(caught.value), str(caught.value)
    assert caught.value.file == __file__
    code = getattr(use, "__code__", traced.__code__)
    assert code.co_firstlineno - 8 <= caught.value.line <= code.co_firstlineno + 8


def test_a_flows_input_is_a_placeholder_too():
    @flow
    def sample(order: Inner, n: int) -> None:
        take({"name": order.name, "n": [n, (order.tags[0],)]})

    assert sample.manifest.steps["take"].inputs["value"] == {
        "name": "@triggerBody().order.name",
        "n": ["@triggerBody().n", ["@triggerBody().order.tags[0]"]],
    }
    with pytest.raises(AuthoringError, match="the flow's input `n` was asked whether it is true"):

        @flow
        def wrong(n: int) -> None:
            take(1 if n else 2)


def test_a_placeholder_shows_itself_in_a_debugger():
    kept: list[Any] = []

    @flow
    def sample() -> None:
        kept.append(make().inner)

    assert repr(kept[0]) == "<placeholder @steps('make').output.inner>"


@pytest.mark.parametrize(
    ("kind", "element"),
    [(list[int], int), (tuple[str, ...], str), (Sequence[int] | None, int), (Any, Any), (list, Any), (Root, Inner)],
)
def test_the_type_of_a_lists_items(kind, element):
    assert kinds.element(kind) is element


@pytest.mark.parametrize("kind", [int, str, dict[str, int], Inner, None])
def test_what_is_no_list(kind):
    with pytest.raises(kinds.NoMember):
        kinds.element(kind)
