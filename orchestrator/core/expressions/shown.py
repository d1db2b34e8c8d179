"""An expression with the values that it found, for whoever asks why."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from orchestrator.core.expressions.evaluate import Scope, evaluate
from orchestrator.core.expressions.render import render
from orchestrator.core.expressions.tree import AllOf, AnyOf, Call, Compare, Default, Expr, Not, Ref, Value, refs
from orchestrator.core.secrets import MASK

_LONGEST: Final = 200
"""Characters of a text that is shown."""


def with_values(expr: Expr, scope: Scope, hides: Callable[[Expr], bool] = lambda _: False) -> str:
    """`, with 250 > 1000`: what was compared, `***` for what `hides` says. Empty where nothing was looked up."""
    return f", with {render(_filled(expr, scope, hides))}" if any(True for _ in refs(expr)) else ""


def _filled(expr: Expr, scope: Scope, hides: Callable[[Expr], bool]) -> Expr:
    """References to plain values as these values; a list or an object stays as it is named."""
    match expr:
        case Ref():
            return Value(MASK) if hides(expr) else _value(expr, scope)
        case Compare():
            return replace(expr, left=_filled(expr.left, scope, hides), right=_filled(expr.right, scope, hides))
        case Not():
            return Not(_filled(expr.of, scope, hides))
        case AllOf():
            return AllOf(tuple(_filled(one, scope, hides) for one in expr.of))
        case AnyOf():
            return AnyOf(tuple(_filled(one, scope, hides) for one in expr.of))
        case Default():
            return Default(_filled(expr.value, scope, hides), _filled(expr.other, scope, hides))
        case Call():
            return replace(expr, arguments=tuple(_filled(one, scope, hides) for one in expr.arguments))
        case _:
            return expr


def _value(ref: Ref, scope: Scope) -> Expr:
    match evaluate(ref, scope):
        case None | bool() as plain:
            return Value(plain)
        case int() | float() as number:
            return Value(Decimal(str(number)))
        case str() as text:
            return Value(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
    return ref
