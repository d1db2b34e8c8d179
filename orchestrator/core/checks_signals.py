"""What can be wrong with steps that wait for a signal or an answer."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue

from orchestrator.core.expressions import Ref, find, is_expression, refs
from orchestrator.core.problem import Problem, key_problems
from orchestrator.core.schemas import misfit
from orchestrator.core.signals import Awaited, awaited, key_text
from orchestrator.core.values import show_path
from orchestrator.errors import ExpressionInvalid, ManifestInvalid

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest, StepDef


def problems(place: str, key: str, step: "StepDef") -> Iterator[Problem]:
    """Of one step that may wait for something."""
    wait = awaited(key, step)
    if wait is None:
        return
    here = f"{place}.{'signal' if wait.approval is None else 'approval'}"
    if wait.approval is None:
        yield from key_problems(f"{here}.name", wait.name)
        yield from _literal_key(f"{here}.key", wait.key)
    if wait.timeout is not None and wait.until is not None:
        yield Problem(f"{here}.until", "there is `timeout` and `until`", "give one of them")
    yield from _form_problems(here, wait)


def in_an_item(place: str, loop: str, step: "StepDef", beside: Collection[str]) -> Iterator[Problem]:
    """Of a step that runs for each item of this loop, among others of it: each item waits for a signal of its own."""
    if step.signal is None:
        return
    name = step.signal.name
    why = f"every item of loop `{loop}` waits for the same signal `{name}`: nobody could say which one it is for"
    found = [one.expr for one in find(step.signal.key) if not isinstance(one.expr, ExpressionInvalid)]
    if not any(_tells_items_apart(ref, loop, beside) for expr in found for ref in refs(expr)):
        yield Problem(f"{place}.signal.key", why, "give one that differs from item to item, such as `@item().id`")


def _tells_items_apart(ref: Ref, loop: str, beside: Collection[str]) -> bool:
    if ref.root in ("item", "index"):
        return ref.loop in (None, loop)
    return ref.root == "step" and ref.key in beside


def of_names(m: "Manifest") -> Iterator[Problem]:
    """Waits of one name have one schema; a name is that of signals, or of one approval. One inside of a loop has the
    names of its rows, which no signal can have."""
    first: dict[str, tuple[str, Awaited]] = {}
    for where, key, step in _every("steps", m.steps):
        wait = awaited(key, step)
        if wait is None or (wait.approval is not None and where != f"steps.{key}"):
            continue
        known, other = first.setdefault(wait.name, (key, wait))
        if other is wait:
            continue
        place = f"{where}.{'signal' if wait.approval is None else 'approval'}"
        if (other.approval is None) != (wait.approval is None):
            yield Problem(place, f"`{wait.name}` is a signal and an approval", "give one of them another name")
        elif other.form != wait.form:
            why = f"signal `{wait.name}` has another schema here than in `{known}`"
            yield Problem(f"{place}.schema", why, "give both the same, or another name")


def _every(place: str, steps: Mapping[str, "StepDef"]) -> Iterator[tuple[str, str, "StepDef"]]:
    """Those inside of loops, too, each with its place."""
    for key, step in steps.items():
        yield f"{place}.{key}", key, step
        yield from _every(f"{place}.{key}.steps", step.steps)


def _literal_key(place: str, key: JsonValue) -> Iterator[Problem]:
    if isinstance(key, str) and is_expression(key):
        return
    try:
        key_text(key)
    except ValueError as exc:
        yield Problem(place, str(exc), "such as `@triggerBody().order_id`")


def _form_problems(here: str, wait: Awaited) -> Iterator[Problem]:
    schema, default = ("schema", "default") if wait.approval is None else ("form", "late")
    try:
        wrong = misfit(json.dumps(wait.form, sort_keys=True), wait.default[0] if wait.default else None)
    except ManifestInvalid as exc:
        reason = exc.message.partition(": ")[2].partition(" Fix: ")[0].rstrip(".")
        yield Problem(f"{here}.{schema}", f"this is not a JSON Schema: {reason}", "correct it")
        return
    if wait.default not in (None, (None,)) and wrong is not None:
        path = show_path(wrong.path)
        where = f" at `{path}`" if path else ""
        yield Problem(f"{here}.{default}", f"it does not fit the schema{where}: {wrong.message}", "give one that does")
