"""Stand-ins for values that do not exist while a flow is traced."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, Protocol

from orchestrator.authoring import kinds
from orchestrator.authoring.where import caller, is_user_code
from orchestrator.core.expressions import Ref
from orchestrator.core.wording import sentence
from orchestrator.errors import AuthoringError


class Trace(Protocol):
    """The recording that a placeholder belongs to; `tracing` while the flow's body runs."""

    tracing: bool


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """What a placeholder stands for. `kind` is its type; `owner` the recording that made it."""

    ref: Ref
    kind: Any
    owner: Trace
    label: str  # such as "the result of step `fetch`"

    def member(self, part: str | int, found: kinds.Member) -> "Node":
        suffix = f".{part}" if isinstance(part, str) and part.isidentifier() else f"[{part!r}]"
        ref = replace(self.ref, path=(*self.ref.path, *found.path))
        return Node(ref, found.kind, self.owner, self.label + suffix)


class Placeholder:
    """Stands for a step's result or a flow's input. Pass it on, or an attribute or item of it; nothing else."""

    __slots__ = ("_orchestrator_node",)
    _orchestrator_node: Node

    def __init__(self, node: Node) -> None:
        object.__setattr__(self, "_orchestrator_node", node)

    def __getattr__(self, name: str) -> "Placeholder":
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # Python asking for a protocol, not the user for a field
        node = self._orchestrator_node
        try:
            return Placeholder(node.member(name, kinds.attribute(node.kind, name)))
        except kinds.NoMember as miss:
            refuse(f"{node.label}: {miss}", miss.fix)

    def __getitem__(self, key: object) -> "Placeholder":
        node = self._orchestrator_node
        if isinstance(key, bool) or not isinstance(key, str | int):
            what = "a slice" if isinstance(key, slice) else f"a key of type {type(key).__name__}"
            refuse(f"{node.label} cannot be read with {what} in a flow body", "do it in a step")
        try:
            return Placeholder(node.member(key, kinds.item(node.kind, key)))
        except kinds.NoMember as miss:
            refuse(f"{node.label}: {miss}", miss.fix)

    def __repr__(self) -> str:
        node = self._orchestrator_node
        if node.owner.tracing and is_user_code(sys._getframe(1)):  # f"{x!r}", str([x]): no value would be in the text
            refuse(f"{node.label} was turned into text", _TEXT)
        return f"<placeholder {node.ref}>"

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What `isinstance` asks; every answer would be one about the placeholder."""
        node = self._orchestrator_node
        if node.owner.tracing and is_user_code(sys._getframe(1)):
            refuse(f"{node.label} was asked for its class (`isinstance`), and has no value yet", _DECIDE)
        return Placeholder

    def __copy__(self) -> "Placeholder":
        return self

    def __deepcopy__(self, memo: object) -> "Placeholder":
        return self


def node_of(value: Placeholder) -> Node:
    return value._orchestrator_node


def refuse(problem: str, fix: str) -> NoReturn:
    """
    Raises:
        AuthoringError: always, with file and line of the user's code.
    """
    place = caller()
    file, _, line = place.rpartition(":")
    text = f"{place}: {sentence(problem)} Fix: {sentence(fix)}"
    raise AuthoringError(text, place=place, file=file, line=int(line))


_CONDITION: Final = (
    "write `with when(order.total > 1000):` instead of `if`, `(a > 1) & (b < 2)` or `all_of(a > 1, b < 2)` instead of "
    "`and`, `|` instead of `or`, `~` instead of `not`; what only Python can decide, a step decides"
)
_DECIDE: Final = "move the decision into a step: it gets the value and returns what follows from it"
_LOOP: Final = "to run a step on each item write `each(step, items)`; to unpack write `x[0], x[1]`"
_TEXT: Final = "pass the value to a step and build the text there"
_COUNT: Final = "do the calculation in a step and use its result"
_REFUSED: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("__bool__",), ("was asked whether it is true (if, while, and, or, not, in)", _CONDITION)),
    **dict.fromkeys(("__contains__",), ("was searched with `in`", "write `with when(contains(order.tags, 'vip')):`")),
    **dict.fromkeys(("__iter__", "__next__", "__reversed__"), ("was used in a loop, an unpacking or `*`", _LOOP)),
    **dict.fromkeys(("__aiter__", "__anext__"), ("was used in an `async for`", _LOOP)),
    **dict.fromkeys(("__len__", "__length_hint__"), ("was measured with `len`", _COUNT)),
    **dict.fromkeys(("__str__", "__format__", "__bytes__", "__fspath__"), ("was turned into text", _TEXT)),
    **dict.fromkeys(("__int__", "__float__", "__complex__", "__index__"), ("was turned into a number", _COUNT)),
    **dict.fromkeys(("__hash__",), ("was put in a set or used as a key", "use a list, or do it in a step")),
    **dict.fromkeys(("__call__",), ("was called", "call it in a step; only fields and items can be passed on")),
    **dict.fromkeys(
        ("__setattr__", "__delattr__", "__setitem__", "__delitem__"),
        ("was changed", "change it in a step and return the new value"),
    ),
    **dict.fromkeys(("__await__",), ("was awaited", "leave `await` out: the flow body only says what depends on what")),
    **dict.fromkeys(
        ("__enter__", "__exit__", "__aenter__", "__aexit__"), ("was used in a `with`", "open and close it in one step")
    ),
}
_BINARY: Final = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "matmul"),
    *("lshift", "rshift", "and", "or", "xor"),
)
_UNARY: Final = ("neg", "pos", "abs", "invert", "round", "trunc", "floor", "ceil")
_ARITHMETIC: Final = [
    *(f"__{prefix}{name}__" for name in _BINARY for prefix in ("", "r", "i") if (prefix, name) != ("i", "divmod")),
    *(f"__{name}__" for name in _UNARY),
]


def refuse_operations(kind: type, label: Callable[[Any], str]) -> None:
    """Everything that needs a value is an error of this class; `label` names an object of it."""

    def refusal(problem: str, fix: str) -> Callable[..., NoReturn]:
        def method(self: object, *args: object, **kwargs: object) -> NoReturn:
            refuse(f"{label(self)} {problem}, and has no value yet", fix)

        return method

    for name, (problem, fix) in _REFUSED.items():
        setattr(kind, name, refusal(problem, fix))
    for name in _ARITHMETIC:
        setattr(kind, name, refusal("was used in a calculation", _COUNT))


refuse_operations(Placeholder, lambda value: node_of(value).label)
