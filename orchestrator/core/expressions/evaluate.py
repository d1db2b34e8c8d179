"""From a structure with expressions to plain JSON. Strict: nothing is converted unasked."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, TypeAlias

from pydantic import JsonValue

from orchestrator.core.expressions.parser import parse
from orchestrator.core.expressions.render import render
from orchestrator.core.expressions.tree import AllOf, AnyOf, Call, Compare, Default, Expr, Not, Ref, Value
from orchestrator.core.times import parse_time

Found: TypeAlias = JsonValue | Decimal | datetime
"""What an expression gives: JSON, with exact numbers, or an instant."""
_TEXT_LIMIT: Final = 1024 * 1024
_SHOWN: Final = 40
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DIGITS: Final = 400
"""Of a number that a text gives, before its point or behind it: more than a float has. Written out, 1e999999999 is a
gigabyte."""
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


class EvaluationFailed(Exception):
    """An expression cannot be evaluated with these values: kinds that cannot be compared, a text that is not a number.
    Whoever asked says what that means: a step's inputs, a loop's list, a run's output."""

    def __init__(self, expr: Expr, problem: str) -> None:
        self.expr = expr
        self.expression = render(expr)
        self.problem = problem
        super().__init__(f"`{self.expression}` cannot be evaluated: {problem}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What references may see. A step that is not in `outputs` (skipped, failed) gives null."""

    trigger: JsonValue = None
    outputs: Mapping[str, JsonValue] = field(default_factory=dict)
    item: JsonValue = None
    index: int | None = None
    statuses: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, JsonValue] = field(default_factory=dict)
    senders: Mapping[str, JsonValue] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in small letters."""
    around: Mapping[str, tuple[JsonValue, int | None]] = field(default_factory=dict)
    """By the key of a loop that is not the innermost, its item and index."""
    output: JsonValue = None
    """What a step that polls has just returned."""


def resolve(value: JsonValue, scope: Scope) -> JsonValue:
    """`value` with every expression replaced; "@@x" becomes "@x".

    Parts of the scope are shared, not copied: treat the answer as read-only.

    Raises:
        ExpressionInvalid: only for text that no valid manifest holds.
        EvaluationFailed: an expression cannot be evaluated with these values.
    """
    if isinstance(value, str):
        if not value.startswith("@"):
            return value
        return value[1:] if value.startswith("@@") else as_json(evaluate(parse(value), scope))
    if isinstance(value, dict):
        return {key: resolve(item, scope) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    return value


def escape(value: JsonValue) -> JsonValue:
    """A literal that `resolve` gives back unchanged."""
    if isinstance(value, str):
        return "@" + value if value.startswith("@") else value
    if isinstance(value, dict):
        return {key: escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escape(item) for item in value]
    return value


def evaluate(expr: Expr, scope: Scope) -> Found:
    """What the expression gives with these values.

    Raises:
        EvaluationFailed: two values cannot be compared, or a function cannot take what it was given.
    """
    match expr:
        case Ref():
            return _look_up(expr, scope)
        case Value(value):
            return value
        case Compare():
            return _compare(expr, evaluate(expr.left, scope), evaluate(expr.right, scope))
        case Not():
            return not holds(expr.of, scope)
        case AllOf():
            return all(holds(one, scope) for one in expr.of)
        case AnyOf():
            return any(holds(one, scope) for one in expr.of)
        case Default():
            found = evaluate(expr.value, scope)
            return evaluate(expr.other, scope) if found is None else found
        case Call():
            return _FUNCTIONS[expr.function](expr, *(evaluate(one, scope) for one in expr.arguments))


# ---- references ----


def _look_up(ref: Ref, scope: Scope) -> JsonValue:
    found = _start(ref, scope)
    for part in ref.path:
        if isinstance(found, dict):
            name = part if isinstance(part, str) else str(part)
            found = found.get(name.lower() if found is scope.headers else name)
        elif isinstance(found, list) and isinstance(part, int) and -len(found) <= part < len(found):
            found = found[part]
        else:
            return None
    return found


def _start(ref: Ref, scope: Scope) -> JsonValue:
    key = ref.key or ""
    match ref.root:
        case "trigger":
            return scope.trigger
        case "headers":
            return scope.headers  # type: ignore[return-value]
        case "item":
            return scope.around.get(ref.loop or "", (scope.item,))[0]
        case "index":
            return scope.around.get(ref.loop or "", (None, scope.index))[1]
        case "output":
            return scope.output
    by_member: dict[str, Mapping[str, JsonValue]] = {
        "output": scope.outputs,
        "error": scope.errors,
        "by": scope.senders,
    }
    return scope.statuses.get(key) if ref.member == "status" else by_member[ref.member].get(key)


# ---- comparing ----


def _compare(expr: Compare, left: Found, right: Found) -> bool:
    one, other = _exact(left), _exact(right)
    if one is None or other is None:
        if expr.operator not in ("==", "!="):
            raise EvaluationFailed(expr, f"null has no order: {_shown(left)} {expr.operator} {_shown(right)}")
        return (one is other) is (expr.operator == "==")
    kinds = _kind(one), _kind(other)
    ordered = kinds[0] in ("number", "string", "time")
    equal_only = kinds[0] == "bool" and expr.operator in ("==", "!=")
    if kinds[0] != kinds[1] or not (ordered or equal_only):
        raise EvaluationFailed(expr, f"{kinds[0]} {_shown(left)} compared with {kinds[1]} {_shown(right)}")
    _check_size(expr, one, other)
    return _ORDER[expr.operator](one, other)


def _exact(value: Found) -> Found:
    """Numbers as decimals, from their text: 0.1 is one tenth."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return Decimal(str(value))


def _kind(value: Found) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float() | Decimal():
            return "number"
        case str():
            return "string"
        case datetime():
            return "time"
    return "list" if isinstance(value, list) else "object"


def holds(expr: Expr, scope: Scope) -> bool:
    """Whether a condition is true with these values.

    Raises:
        EvaluationFailed: as `evaluate`; or it is neither true nor false.
    """
    found = evaluate(expr, scope)
    if not isinstance(found, bool):
        raise EvaluationFailed(expr, f"{_kind(found)} {_shown(found)} is neither true nor false")
    return found


# ---- functions ----


def _number(call: Call, value: Found) -> Found:
    if _kind(value) == "number":
        return value
    if not isinstance(value, str) or not _NUMBER.fullmatch(text := value.strip()):
        raise EvaluationFailed(call, f"{_kind(value)} {_shown(value)} is not a number")
    if not _is_short(text):
        raise EvaluationFailed(call, f"{_shown(value)} is a number of more than {_DIGITS} digits")
    return Decimal(text)


def _is_short(number: str) -> bool:
    """Whether it has few digits when it is written out."""
    digits, _, exponent = number.lower().partition("e")
    return len(digits) <= _DIGITS and len(exponent) <= 4 and abs(int(exponent or 0)) <= _DIGITS


def _time(call: Call, value: Found) -> Found:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        found = parse_time(value)
        if found is None:
            raise EvaluationFailed(call, f"{_shown(value)} is not a time as in ISO 8601")
        if found.tzinfo is None:
            raise EvaluationFailed(call, f"{_shown(value)} has no zone")
        return found
    raise EvaluationFailed(call, f"{_kind(value)} {_shown(value)} is not a time")


def _text(call: Call, value: Found) -> Found:
    match _kind(value):
        case "list" | "object" as kind:
            raise EvaluationFailed(call, f"{kind} {_shown(value)} has no text")
        case "string":
            return value
    return _plain(value)


def _lower(call: Call, value: Found) -> Found:
    if not isinstance(value, str):
        raise EvaluationFailed(call, f"{_kind(value)} {_shown(value)} is not a text")
    _check_size(call, value)
    return value.lower()


def _length(call: Call, value: Found) -> Found:
    if value is None:
        return 0
    if not isinstance(value, str | list | dict):
        raise EvaluationFailed(call, f"{_kind(value)} {_shown(value)} has no length")
    return len(value)


def _contains(call: Call, where: Found, what: Found) -> Found:
    if where is None:
        return False
    if isinstance(where, str) and isinstance(what, str):
        _check_size(call, where)
        return what in where
    if not isinstance(where, list) or isinstance(what, list | dict):
        raise EvaluationFailed(
            call, f"{_kind(what)} {_shown(what)} cannot be looked for in {_kind(where)} {_shown(where)}"
        )
    wanted = _exact(what)
    return any(_kind(one) == _kind(wanted) and _exact(one) == wanted for one in where)


_FUNCTIONS: Final[Mapping[str, Callable[..., Found]]] = {
    "number": _number,
    "time": _time,
    "text": _text,
    "lower": _lower,
    "length": _length,
    "contains": _contains,
}


# ---- showing ----


def _check_size(expr: Expr, *texts: Found) -> None:
    for text in texts:
        if isinstance(text, str) and len(text) > _TEXT_LIMIT:
            raise EvaluationFailed(expr, f"a text of {len(text):,} characters is not compared")


def as_json(value: Found) -> JsonValue:
    """What an expression gave, as an output or an input holds it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _plain(value: Found) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat()
        case float():
            return f"{Decimal(str(value)):f}"
        case Decimal():
            return f"{value:f}"
    return str(value)


def _shown(value: Found) -> str:
    """Short enough for a message; of what is large, only what it is."""
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
    if isinstance(value, list | dict):
        return f"of {len(value)}"
    return _plain(value)
