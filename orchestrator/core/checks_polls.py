"""What can be wrong with the polling of a step."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.core.expressions import parse_bare, refs
from orchestrator.core.expressions.types import BOOLEAN, kind, misfits
from orchestrator.core.problem import Problem
from orchestrator.errors import ExpressionInvalid

if TYPE_CHECKING:
    from orchestrator.core.manifest import StepDef


def problems(place: str, step: "StepDef") -> Iterator[Problem]:
    """Of one step that may poll."""
    if step.poll is None:
        return
    if step.transactional:
        why = "a step that polls is not transactional: what it writes before it knows would be kept"
        yield Problem(f"{place}.poll", why, "leave one of the two out")
    if step.poll.until is not None:
        yield from _until(f"{place}.poll.until", step.poll.until)


def _until(place: str, text: str) -> Iterator[Problem]:
    try:
        expr = parse_bare(text)
    except ExpressionInvalid as exc:
        yield Problem(place, f"{exc.problem} in `{text:.120}`", exc.fix)
        return
    for why in misfits(expr):
        yield Problem(place, why, "convert one of them, such as `number(…)`, or compare it with its like")
    if kind(expr) not in (None, BOOLEAN):
        yield Problem(place, f"gives a {kind(expr)}, neither true nor false", "compare it, such as with `== 'x'`")
    read = list(refs(expr))
    for ref in read:
        if ref.root != "output":
            yield Problem(place, f"`until` reads `{ref}`", "it knows `@output()` only, what the step returned")
    if not read:
        yield Problem(place, f"`{text}` is the same for every output", "ask for something of `@output()`")
