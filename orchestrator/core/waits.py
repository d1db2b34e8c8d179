"""Sleeps, and waits for a time: their fields in a manifest, and until when they last."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BeforeValidator, TypeAdapter

from orchestrator.core.durations import parse_duration
from orchestrator.core.expressions import EvaluationFailed, Expr, Found, Scope, evaluate, is_expression
from orchestrator.core.expressions.walk import find, find_bare
from orchestrator.core.times import in_range, parse_time
from orchestrator.errors import DurationInvalid, ExpressionInvalid

if TYPE_CHECKING:
    from orchestrator.core.manifest import StepDef

LONGEST: Final = timedelta(days=3653)
"""Ten years."""
_LENGTH: Final = TypeAdapter(timedelta)


class WaitInvalid(Exception):
    """Nobody can say until when a wait lasts."""


def _length_text(value: object) -> object:
    """A length of time as JSON has it; an expression as it is."""
    if isinstance(value, str) and is_expression(value):
        return value
    found = parse_duration(value)
    if not timedelta(0) < found <= LONGEST:
        raise ValueError("a sleep is longer than nothing, and ten years at most")
    return _LENGTH.dump_python(found, mode="json")


def _time_text(value: object) -> object:
    """A time as JSON has it; an expression as it is."""
    found = value if isinstance(value, datetime) else parse_time(value)
    if found is None:
        return value
    if found.tzinfo is None:
        raise ValueError("a time has an offset, such as `2026-01-31T12:00:00+01:00`")
    if not in_range(found):
        raise ValueError("a time lies in the years 1 to 9999 of UTC")
    return found.isoformat()


Length = Annotated[str, BeforeValidator(_length_text)]
"""How long a sleep is: `P1D`, or an expression."""
Time = Annotated[str, BeforeValidator(_time_text)]
"""Until when a wait lasts: a time with its offset, or an expression."""


def found(step: "StepDef") -> list[Found]:
    """Its expressions, each with its place in it."""
    time = None if parse_time(step.until) is not None else step.until
    return [*find(step.sleep, ("sleep",)), *find_bare(time, ("until",))]


def over(step: "StepDef", scope: Scope) -> timedelta | datetime:
    """How long the step sleeps, or until when it waits.

    Raises:
        WaitInvalid: its expression gives neither.
    """
    time = parse_time(step.until)
    if time is not None:
        return time
    for one in found(step):
        assert not isinstance(one.expr, ExpressionInvalid)
        return _length(step, one.expr, scope) if step.until is None else _time(step, one.expr, scope)
    return parse_duration(step.sleep)


def _length(step: "StepDef", expr: Expr, scope: Scope) -> timedelta:
    try:
        length = parse_duration(_value(expr, scope))
    except DurationInvalid as exc:
        raise WaitInvalid(f"`sleep: {step.sleep}`: {exc.message.partition(' Fix: ')[0].rstrip('.')}") from exc
    if length > LONGEST:
        raise WaitInvalid(f"`sleep: {step.sleep}` is longer than ten years")
    return length


def _time(step: "StepDef", expr: Expr, scope: Scope) -> datetime:
    value = _value(expr, scope)
    time = value if isinstance(value, datetime) else parse_time(value)
    if time is None or time.tzinfo is None:
        raise WaitInvalid(f"`until: {step.until}` gives {value!r:.60}, which is not a time with its offset")
    return time


def _value(expr: Expr, scope: Scope) -> object:
    try:
        return evaluate(expr, scope)
    except EvaluationFailed as exc:
        raise WaitInvalid(str(exc)) from exc
