"""What an expression gives, where that can be said without values, and what can never be evaluated."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from orchestrator.core.expressions.render import render
from orchestrator.core.expressions.tree import AllOf, AnyOf, Call, Compare, Default, Expr, Not, Ref, Value, every
from orchestrator.core.states import FINAL_STEP

BOOLEAN: Final = "bool"
_OF_FUNCTIONS: Final = {"number": "number", "length": "number", "text": "string", "lower": "string", "time": "time"}
_ENDS: Final = tuple(sorted(FINAL_STEP))
_OF_LITERALS: Final = {bool: BOOLEAN, Decimal: "number", str: "string", type(None): "null"}


def kind(expr: Expr) -> str | None:
    """What it gives: bool, number, string, time or null; None where only its values can say."""
    match expr:
        case Compare() | Not() | AllOf() | AnyOf():
            return BOOLEAN
        case Call():
            return _OF_FUNCTIONS.get(expr.function, BOOLEAN)
        case Value(value):
            return _OF_LITERALS[type(value)]
        case Ref():
            return "number" if expr.root == "index" else "string" if expr.member == "status" else None
        case Default():
            kinds = {kind(expr.value), kind(expr.other)} - {"null"}
            return kinds.pop() if len(kinds) == 1 else None


def misfits(expr: Expr) -> Iterator[str]:
    """What in it fails with all values, in words."""
    for part in every(expr):
        match part:
            case Compare():
                yield from _compared(part)
            case Not():
                yield from _no_bool(part.of)
            case AllOf() | AnyOf():
                for one in part.of:
                    yield from _no_bool(one)
            case _:
                pass


def _compared(expr: Compare) -> Iterator[str]:
    left, right = kind(expr.left), kind(expr.right)
    ordered = expr.operator not in ("==", "!=")
    if ordered and "null" in (left, right):
        yield f"`{render(expr)}`: null has no order"
    elif left is None or right is None or "null" in (left, right):
        return
    elif left != right:
        yield f"`{render(expr)}` compares a {left} with a {right}"
    elif ordered and left == BOOLEAN:
        yield f"`{render(expr)}`: a bool has no order"
    else:
        yield from _no_status(expr, expr.left, expr.right)
        yield from _no_status(expr, expr.right, expr.left)


def _no_status(expr: Compare, status: Expr, other: Expr) -> Iterator[str]:
    """A text that no step ends as, compared with how one ended."""
    if not (isinstance(status, Ref) and status.member == "status" and isinstance(other, Value)):
        return
    if expr.operator in ("==", "!=") and other.value not in _ENDS:
        yield f"`{render(expr)}`: a step ends as {', '.join(_ENDS[:-1])} or {_ENDS[-1]}, never as {other.value!r}"


def _no_bool(expr: Expr) -> Iterator[str]:
    if kind(expr) not in (None, BOOLEAN):
        yield f"`{render(expr)}` is a {kind(expr)}, neither true nor false"
