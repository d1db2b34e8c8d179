"""The text of an expression: one for each, with few brackets: those it needs, and those behind `!`."""

import re
from typing import Final

from orchestrator.core.expressions.tree import AllOf, AnyOf, Call, Compare, Default, Expr, Not, Ref, Value

FUNCTIONS: Final = {
    "trigger": "triggerBody",
    "headers": "triggerHeaders",
    "step": "steps",
    "item": "item",
    "index": "index",
    "output": "output",
}
"""By root."""
_PLAIN_NAME: Final = re.compile(r"[^\W\d]\w*")
_BINDS: Final[dict[type, int]] = {Default: 0, AnyOf: 1, AllOf: 2, Not: 3, Compare: 4}
"""How strongly; what is not here stands alone."""
_ALONE: Final = 5


def render(expr: Expr) -> str:
    """The text of an expression, of a reference with its leading "@". Reading it gives the same expression."""
    match expr:
        case Ref():
            return _reference(expr)
        case Value():
            return _literal(expr)
        case Compare():
            return f"{_within(expr.left, _ALONE)} {expr.operator} {_within(expr.right, _ALONE)}"
        case Not():
            return f"!{_within(expr.of, _BINDS[Not] if isinstance(expr.of, Not) else _ALONE)}"
        case AllOf():
            return " && ".join(_within(one, _BINDS[Not]) for one in expr.of)
        case AnyOf():
            return " || ".join(_within(one, _BINDS[AllOf]) for one in expr.of)
        case Default():
            return f"{_within(expr.value, _BINDS[AnyOf])} ?? {_within(expr.other, _BINDS[Default])}"
        case Call():
            return f"{expr.function}({', '.join(map(render, expr.arguments))})"


def _within(expr: Expr, least: int) -> str:
    text = render(expr)
    return text if _BINDS.get(type(expr), _ALONE) >= least else f"({text})"


def _reference(ref: Ref) -> str:
    key = "".join(quote(one) for one in (ref.key, ref.loop) if one is not None)
    member = f".{ref.member}" if ref.root == "step" else ""
    return f"@{FUNCTIONS[ref.root]}({key}){member}" + "".join(map(_part, ref.path))


def _part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if _PLAIN_NAME.fullmatch(part) else f"[{quote(part)}]"


def _literal(literal: Value) -> str:
    match literal.value:
        case None:
            return "null"
        case bool():
            return str(literal.value).lower()
        case str():
            return quote(literal.value)
        case number:
            return f"{number:f}"


def quote(text: str) -> str:
    """As it stands in an expression."""
    return "'" + text.replace("'", "''") + "'"
