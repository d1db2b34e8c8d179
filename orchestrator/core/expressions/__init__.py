"""References inside a manifest: strings that begin with "@" ("@@x" is the literal "@x").

    @triggerBody()              the run's input             @triggerBody()?.order.lines[0]['unit price']
    @steps('key').output        the result of a step        @steps('fetch').output.rows[-1]
    @item()  @index()           inside a loop: the item of this child and its place, from 0

A path step may be `.name`, `?.name`, `[0]`, `[-1]` or `['any text']` (a quote inside is doubled). A path that leads
nowhere gives null. Boolean expressions (`when`) will use the same tokens.
"""

from orchestrator.core.expressions.evaluate import Scope, escape, resolve
from orchestrator.core.expressions.parser import Ref, is_expression, parse, render
from orchestrator.core.expressions.walk import Found, find, references

__all__ = ["Found", "Ref", "Scope", "escape", "find", "is_expression", "parse", "references", "render", "resolve"]
