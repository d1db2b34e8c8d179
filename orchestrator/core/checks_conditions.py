"""What can be wrong with the expressions of a step beyond what they refer to, and with merges and requirements."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.core.expressions import Expr, Found
from orchestrator.core.expressions.types import BOOLEAN, kind, misfits
from orchestrator.core.problem import Problem, written
from orchestrator.core.states import StepKind
from orchestrator.errors import ExpressionInvalid

if TYPE_CHECKING:
    from orchestrator.core.manifest import StepDef

CONDITIONS = frozenset({"when", "require"})
"""The fields whose expressions are true or false."""


def problems(place: str, step: "StepDef") -> Iterator[Problem]:
    """Expressions that can never be evaluated, conditions that are none, and what merges and requirements lack."""
    for found in step.found():
        if not isinstance(found.expr, ExpressionInvalid):
            yield from _evaluation_problems(place, found, found.expr)
    if step.kind is StepKind.MERGE:
        yield from _merge_problems(place, step)
    if step.kind is StepKind.REQUIRE and not step.message:
        yield Problem(f"{place}.message", "a requirement needs a `message`", "say what is wrong when it does not hold")


def _evaluation_problems(place: str, found: Found, expr: Expr) -> Iterator[Problem]:
    here = place + written(found.path)
    for text in misfits(expr):
        yield Problem(here, text, "convert one of them, such as `number(…)`, or compare it with its like")
    if found.path[0] in CONDITIONS and kind(expr) not in (None, BOOLEAN):
        yield Problem(here, f"gives a {kind(expr)}, neither true nor false", "compare it, such as with `== 'x'`")


def _merge_problems(place: str, merge: "StepDef") -> Iterator[Problem]:
    if not any(ref.root == "step" for ref in merge.references()):
        yield Problem(f"{place}.value", "a merge reads the output of a step", "such as `@steps('a').output`")
