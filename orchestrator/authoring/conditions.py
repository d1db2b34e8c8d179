"""Conditions of a flow body: what comparing placeholders gives. Kinds are checked here, while the body is traced."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol, cast
from uuid import UUID

from orchestrator.authoring import kinds
from orchestrator.authoring.placeholder import Placeholder, node_of, refuse, refuse_operations
from orchestrator.authoring.scalars import Scalar, scalar
from orchestrator.authoring.where import caller
from orchestrator.core.expressions import Expr, render
from orchestrator.core.expressions.tree import AllOf, AnyOf, Call, Compare, Not, Operator, Value
from orchestrator.core.wording import an

_COMPARE: Final = "compare it, such as `order.total > 0`"
_IN_STEP: Final = "compare it in a step that gives a bool"


class Recording(Protocol):
    """Keeps what is made while a body is traced."""

    tracing: bool
    conditions: "list[Made]"


@dataclass(slots=True, eq=False)
class Made:
    """A condition: its expression, where the body made it, and whether anything came of it."""

    expr: Expr
    owner: Recording
    place: str
    used: bool = False


class Condition:
    """True or false when the flow runs. For `when(…)`, `otherwise(…)` and `options(when=…)`."""

    __slots__ = ("_orchestrator_made",)
    _orchestrator_made: Made

    def __init__(self, made: Made) -> None:
        object.__setattr__(self, "_orchestrator_made", made)

    def __repr__(self) -> str:
        return f"<condition {render(self._orchestrator_made.expr)}>"


def made_by(condition: Condition) -> Made:
    return condition._orchestrator_made


def label_of(condition: Condition) -> str:
    return f"the condition `{render(made_by(condition).expr)}`"


def record(owner: Recording, expr: Expr) -> Condition:
    """A new condition of this trace."""
    made = Made(expr, owner, caller())
    owner.conditions.append(made)
    return Condition(made)


def conjunction(*exprs: Expr) -> Expr:
    """All of them; one stands alone, and those inside of another are taken out."""
    flat = [part for expr in exprs for part in (expr.of if isinstance(expr, AllOf) else (expr,))]
    return flat[0] if len(flat) == 1 else AllOf(tuple(flat))


def disjunction(*exprs: Expr) -> Expr:
    """Any of them."""
    flat = [part for expr in exprs for part in (expr.of if isinstance(expr, AnyOf) else (expr,))]
    return flat[0] if len(flat) == 1 else AnyOf(tuple(flat))


# ---- comparing ----


class Operand(NamedTuple):
    """One side of a comparison. `what` reads well before its type."""

    expr: Expr
    scalar: Scalar | None
    what: str


def compare(owner: Recording, operator: Operator, left: object, right: object) -> Condition:
    """
    Raises:
        AuthoringError: the two are of types that are never alike, or have no order.
    """
    one, other = operand(owner, left), operand(owner, right)
    _require_alike(operator, one, other)
    return record(owner, _compared(operator, one, other))


def operand(owner: Recording, value: object) -> Operand:
    """
    Raises:
        AuthoringError: it is neither a value of this flow nor a literal that a condition can hold.
    """
    if isinstance(value, Placeholder):
        node = node_of(value)
        if node.owner is not owner:
            refuse(f"{node.label} of another flow was compared", "use values of this flow")
        return Operand(node.ref, scalar(node.kind), f"{node.label} is of type {kinds.show(node.kind)}")
    if isinstance(value, Condition):
        made_by(value).used = True
        return Operand(made_by(value).expr, scalar(bool), f"{label_of(value)} is of type bool")
    return Operand(_literal(value), scalar(type(value)), f"{value!r:.60} is of type {kinds.show(type(value))}")


def _literal(value: object) -> Expr:
    match value:
        case Enum():
            return _literal(value.value)
        case None | bool() | str():
            return Value(value)
        case int() | float() | Decimal():
            number = Decimal(str(value))
            if not number.is_finite():
                refuse(f"{value!r} was compared, and JSON has no such number", _IN_STEP)
            return Value(number)
        case datetime():
            if value.tzinfo is None:
                refuse(f"{value!r} has no zone", "give it one, such as `tzinfo=UTC`")
            return Call("time", (Value(value.isoformat()),))
        case date():
            return Value(value.isoformat())
        case UUID():
            return Value(str(value))
    return refuse(f"{an(kinds.show(type(value)))} was compared", f"compare a field of it, or {_IN_STEP}")


def _require_alike(operator: Operator, one: Operand, other: Operand) -> None:
    if one.scalar is None or other.scalar is None:
        return
    names = {one.scalar.name, other.scalar.name}
    ordered = operator not in ("==", "!=")
    if "null" in names:
        if ordered:
            refuse("None was compared by order", "write `== None`, or `is_null(…)`")
    elif len(names) > 1:
        refuse(f"{one.what} and {other.what}: they are never alike", "compare values of one type")
    elif names == {"structure"}:
        refuse(f"{one.what}, which a condition does not compare", _IN_STEP)
    elif ordered and not one.scalar.ordered:
        refuse(f"{one.what}, and has no order", "compare it with `==` or `!=`")


def _compared(operator: Operator, one: Operand, other: Operand) -> Expr:
    scalars = [side.scalar for side in (one, other) if side.scalar is not None]
    function = next((found.function for found in scalars if found.function), None)
    if function is None or any(found.name == "null" for found in scalars):
        return Compare(operator, one.expr, other.expr)
    plain = Compare(operator, _made_comparable(one.expr, function), _made_comparable(other.expr, function))
    absent = [side.expr for side in (one, other) if side.scalar is not None and side.scalar.optional]
    if not absent or operator not in ("==", "!="):
        return plain
    if len(absent) > 1:
        refuse(f"{one.what} and {other.what}: both may be None", _IN_STEP)
    return _unless_null(absent[0], plain)


def _unless_null(expr: Expr, plain: Compare) -> Expr:
    """None is like nothing else."""
    if plain.operator == "==":
        return AllOf((Compare("!=", expr, Value(None)), plain))
    return AnyOf((Compare("==", expr, Value(None)), plain))


def _made_comparable(expr: Expr, function: str) -> Expr:
    done = isinstance(expr, Call) or (isinstance(expr, Value) and isinstance(expr.value, Decimal))
    return expr if done else Call(function, (expr,))


# ---- true or false ----


def truth(owner: Recording, value: object) -> Expr:
    """The expression of something that is true or false when the flow runs.

    Raises:
        AuthoringError: it is something else.
    """
    if isinstance(value, bool):
        refuse(f"a condition is {value} already, before any run", "write a plain `if` for what is known now")
    if not isinstance(value, Condition | Placeholder):
        refuse(f"{value!r:.60} is of type {kinds.show(type(value))}, which is not a condition", _COMPARE)
    found = operand(owner, value)
    if found.scalar is not None and (found.scalar.name != "bool" or found.scalar.optional):
        fix = "compare it with `== True`" if found.scalar.name == "bool" else _COMPARE
        refuse(f"{found.what}, which is not a condition", fix)
    return found.expr


# ---- operators ----


def _comparison(operator: Operator) -> Any:
    def method(self: Placeholder | Condition, other: object) -> Condition:
        return compare(_owner(self), operator, self, other)

    return method


def _and(self: Placeholder | Condition, other: object) -> Condition:
    owner = _owner(self)
    return record(owner, conjunction(truth(owner, self), truth(owner, other)))


def _or(self: Placeholder | Condition, other: object) -> Condition:
    owner = _owner(self)
    return record(owner, disjunction(truth(owner, self), truth(owner, other)))


def _reflected(method: Any) -> Any:
    def reflected(self: Placeholder | Condition, other: object) -> Condition:
        truth(_owner(self), other)  # only what is no placeholder stands on the left, and gets its own refusal
        return cast(Condition, method(self, other))

    return reflected


def _not(self: Placeholder | Condition) -> Condition:
    owner = _owner(self)
    return record(owner, Not(truth(owner, self)))


def _owner(value: Placeholder | Condition) -> Recording:
    owner = made_by(value).owner if isinstance(value, Condition) else cast(Recording, node_of(value).owner)
    if not owner.tracing:
        what = label_of(value) if isinstance(value, Condition) else node_of(value).label
        refuse(f"{what} was used outside of its flow's body", "use the run's values there: `handle.result()`")
    return owner


_OPERATORS: Final[dict[str, Any]] = {
    "__eq__": _comparison("=="),
    "__ne__": _comparison("!="),
    "__lt__": _comparison("<"),
    "__le__": _comparison("<="),
    "__gt__": _comparison(">"),
    "__ge__": _comparison(">="),
    "__and__": _and,
    "__or__": _or,
    "__rand__": _reflected(_and),
    "__ror__": _reflected(_or),
    "__invert__": _not,
}
refuse_operations(Condition, label_of)
for _class in (Placeholder, Condition):
    for _name, _method in _OPERATORS.items():
        setattr(_class, _name, _method)
