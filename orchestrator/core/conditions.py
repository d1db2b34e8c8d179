"""What a condition gave, and what it saw: for the step, for its event, and for whoever asks why."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pydantic import JsonValue

from orchestrator.core.expressions import EvaluationFailed, Expr, Ref, Scope, evaluate, parse_bare, refs, render

_SHOWN: Final = 200
"""Characters of a value, in an event and in a reason."""


@dataclass(frozen=True)
class Judgement:
    """Of the expression of a `when` or a `require`, with the values of one run. `problem`: why it cannot be
    evaluated."""

    text: str
    scope: Scope
    holds: bool
    problem: str | None = None

    @property
    def sentence(self) -> str:
        """What came of it, in words."""
        if self.problem is not None:
            return f"{self.text} cannot be evaluated: {self.problem}"
        seen = render(self._expr, lambda ref: _shown(_value(ref, self.scope)))
        result = "true" if self.holds else "false"
        return f"{self.text} is {result}" + (f", with {seen}" if seen not in (self.text, result) else "")

    @cached_property
    def facts(self) -> dict[str, JsonValue]:
        """For its event."""
        values: dict[str, JsonValue] = {render(ref): _short(_value(ref, self.scope)) for ref in refs(self._expr)}
        result: JsonValue = self.holds if self.problem is None else None
        facts: dict[str, JsonValue] = {"expression": self.text, "values": values, "result": result}
        return facts if self.problem is None else {**facts, "problem": self.problem}

    @cached_property
    def _expr(self) -> Expr:
        return parse_bare(self.text)


def judge(text: str, scope: Scope) -> Judgement:
    """What the condition gives with these values. It cannot be evaluated either when it is neither true nor false."""
    try:
        found = evaluate(parse_bare(text), scope)
    except EvaluationFailed as exc:
        return Judgement(text, scope, holds=False, problem=exc.problem)
    if isinstance(found, bool):
        return Judgement(text, scope, holds=found)
    return Judgement(text, scope, holds=False, problem=f"{_shown(_plain(found))} is neither true nor false")


def _value(ref: Ref, scope: Scope) -> JsonValue:
    return _plain(evaluate(ref, scope))


def _plain(found: object) -> JsonValue:
    """As JSON has it; an exact number or a time as its text."""
    return found if isinstance(found, str | int | float | list | dict | None) else str(found)


def _shown(value: JsonValue) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _short(value: JsonValue) -> JsonValue:
    """As it is where that is short."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= _SHOWN:
        return value
    return _cut(value if isinstance(value, str) else text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
