"""Expressions inside a manifest: strings that begin with "@" ("@@x" is the literal "@x").

    @triggerBody()              the run's input             @triggerBody()?.order.lines[0]['unit price']
    @triggerHeaders()['x-id']   a header of the request     its name without regard to case
    @steps('key').output        the result of a step        @steps('fetch').output.rows[-1]
    @steps('key').status        how it ended                .error has step, type and message
    @steps('key').by            who sent its signal or gave its answer
    @item()  @index()           inside a loop: the item of this child and its place, from 0
    @output()                   in `until` of a step that polls: what it has just returned

A path step may be `.name`, `?.name`, `[0]`, `[-1]` or `['any text']` (a quote inside is doubled). A path that leads
nowhere gives null. What may be done with them (`==`, `&&`, `??`, `number(…)`) is in parser.py, and what comes of it in
evaluate.py.
"""

from orchestrator.core.expressions.evaluate import EvaluationFailed, Scope, as_json, escape, evaluate, holds, resolve
from orchestrator.core.expressions.parser import is_expression, parse, parse_bare
from orchestrator.core.expressions.render import render
from orchestrator.core.expressions.tree import Expr, Ref, refs
from orchestrator.core.expressions.walk import Found, find, find_bare, references

__all__ = [
    "EvaluationFailed",
    "Expr",
    "Found",
    "Ref",
    "Scope",
    "as_json",
    "escape",
    "evaluate",
    "find",
    "holds",
    "find_bare",
    "is_expression",
    "parse",
    "parse_bare",
    "references",
    "refs",
    "render",
    "resolve",
]
