"""What an expression is, once it is read: references, literals, and what is asked of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

Root = Literal["trigger", "headers", "step", "item", "index", "output"]
Member = Literal["output", "status", "error", "by"]
Operator = Literal["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Ref:
    """One reference. `key` is set for the root "step" only, whose `member` is read; `loop` for "item" and "index" that
    name theirs; `path` starts at the body, output,
    error or item. The root "output" is what a step that polls has just returned."""

    root: Root
    key: str | None = None
    path: tuple[str | int, ...] = ()
    member: Member = "output"
    loop: str | None = None

    def __str__(self) -> str:
        from orchestrator.core.expressions.render import render

        return render(self)


@dataclass(frozen=True, slots=True)
class Value:
    """A literal: text, a number, true, false or null."""

    value: str | Decimal | bool | None


@dataclass(frozen=True, slots=True)
class Compare:
    """left == right, and the other five."""

    operator: Operator
    left: "Expr"
    right: "Expr"


@dataclass(frozen=True, slots=True)
class Not:
    """!of"""

    of: "Expr"


@dataclass(frozen=True, slots=True)
class AllOf:
    """one && other && …"""

    of: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """one || other || …"""

    of: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Default:
    """value ?? other: the other one when the value is null."""

    value: "Expr"
    other: "Expr"


@dataclass(frozen=True, slots=True)
class Call:
    """function(argument, …)"""

    function: str
    arguments: tuple["Expr", ...]


Expr: TypeAlias = Ref | Value | Compare | Not | AllOf | AnyOf | Default | Call


def parts(expr: Expr) -> tuple[Expr, ...]:
    """What it is made of."""
    match expr:
        case Compare():
            return expr.left, expr.right
        case Not():
            return (expr.of,)
        case AllOf() | AnyOf():
            return expr.of
        case Default():
            return expr.value, expr.other
        case Call():
            return expr.arguments
        case Ref() | Value():
            return ()


def every(expr: Expr) -> Iterator[Expr]:
    """It, and everything inside."""
    yield expr
    for part in parts(expr):
        yield from every(part)


def refs(expr: Expr) -> Iterator[Ref]:
    """Every reference in it, in order."""
    return (one for one in every(expr) if isinstance(one, Ref))
