"""What can be wrong with a manifest: each problem with its place and, where there is one, what to write instead."""

import copy
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from orchestrator.core import (
    checks_conditions,
    checks_fields,
    checks_joins,
    checks_polls,
    checks_signals,
    checks_waits,
)
from orchestrator.core.expressions import Found, Ref, find, is_expression, refs
from orchestrator.core.headers import is_secret
from orchestrator.core.loops import MOST_LOOPS
from orchestrator.core.loops import key_problems as long_key_problems
from orchestrator.core.problem import Problem, key_problems, written
from orchestrator.core.states import FINAL_STEP, StepKind
from orchestrator.core.suggest import did_you_mean
from orchestrator.core.triggers import TRIGGERS
from orchestrator.core.values import refusal
from orchestrator.errors import ExpressionInvalid, OrchestratorError

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest, StepDef


@dataclass(frozen=True)
class _Scope:
    """The steps that stand together: those of the flow, or those of a loop."""

    manifest: "Manifest"
    steps: Mapping[str, "StepDef"]
    place: str = "steps"
    above: "_Scope | None" = None
    loop: str | None = None

    def within(self, loop: str, steps: Mapping[str, "StepDef"]) -> "_Scope":
        """That of a loop's steps."""
        return _Scope(self.manifest, steps, f"{self.place}.{loop}.steps", self, loop)

    @property
    def visible(self) -> dict[str, "StepDef"]:
        """The steps that can be read here."""
        return {**(self.above.visible if self.above else {}), **self.steps}

    @property
    def loops(self) -> list[str]:
        """The loops around, the outermost first."""
        return [*(self.above.loops if self.above else ()), *([self.loop] if self.loop is not None else ())]


def problems(manifest: "Manifest", known_types: Collection[str] | None = None) -> list[Problem]:
    """Every problem of the graph, in the order of the manifest."""
    found: list[Problem] = []
    scope = _Scope(manifest, manifest.steps)
    for key, step in manifest.steps.items():
        found += _step_problems(scope, key, step, known_types)
    found += checks_signals.of_names(manifest)
    found += _output_problems(scope)
    if (refused := refusal(manifest.model_dump(exclude_defaults=True))) is not None:
        found.append(Problem(refused.place, f"{refused.problem} cannot be stored", "replace or remove it"))
    return [*found, *_order_problems(scope)]


def _order_problems(scope: _Scope) -> Iterator[Problem]:
    cycles = list(_cycles(scope))
    yield from cycles or checks_joins.unreachable(scope.place, scope.steps)


def _step_problems(scope: _Scope, key: str, step: "StepDef", types: Collection[str] | None) -> Iterator[Problem]:
    place = f"{scope.place}.{key}"
    yield from key_problems(place, key)
    yield from long_key_problems(place, scope.loops, key)
    yield from _run_after_problems(scope, key, step)
    yield from checks_joins.problems(place, step)
    yield from checks_fields.problems(place, step)
    yield from checks_signals.problems(place, key, step)
    if step.kind is StepKind.TASK:
        yield from _type_problems(place, step, types)
    yield from _expression_problems(scope, place, step)
    yield from checks_waits.problems(place, key, step, scope.steps, in_an_item=scope.loop is not None)
    if step.is_loop:
        yield from _loop_problems(scope, key, step, types)


def _type_problems(place: str, step: "StepDef", types: Collection[str] | None) -> Iterator[Problem]:
    if not step.type:
        fix = "give `type`; a loop has `for_each` and `steps`, a merge `value`, a requirement `require`, a wait `sleep`"
        yield Problem(f"{place}.type", "a step needs a `type`", fix)
    elif types is not None and step.type not in types:
        yield Problem(f"{place}.type", f"unknown type `{step.type}`", did_you_mean(step.type, types) or None)


def _loop_problems(scope: _Scope, key: str, loop: "StepDef", types: Collection[str] | None) -> Iterator[Problem]:
    place = f"{scope.place}.{key}"
    yield from _loop_field_problems(place, loop)
    if len(scope.loops) == MOST_LOOPS:
        yield Problem(place, f"more than {MOST_LOOPS} loops stand inside each other", "start a flow for each item")
        return
    if not loop.is_graph:
        for name, step in loop.steps.items():
            yield from _only_step_problems(scope.within(key, {}), name, step, types)
        return
    inner = scope.within(key, loop.steps)
    for name, step in loop.steps.items():
        if name in scope.visible:
            hint = "give one of them another key"
            yield Problem(f"{inner.place}.{name}", f"hides the step `{name}` outside of the loop", hint)
        yield from _step_problems(inner, name, step, types)
        yield from checks_signals.in_an_item(f"{inner.place}.{name}", key, step, loop.steps)
    outputs = find(loop.output, ("output",))
    yield from _reference_problems(inner, place, outputs)
    yield from _order_problems(inner)


def _only_step_problems(scope: _Scope, key: str, child: "StepDef", types: Collection[str] | None) -> Iterator[Problem]:
    """Of a loop's one step, when it is a plain one."""
    place = f"{scope.place}.{key}"
    yield from key_problems(place, key)
    yield from long_key_problems(place, scope.loops, key)
    yield from _expression_problems(scope, place, child)
    yield from checks_fields.problems(place, child)
    yield from _type_problems(place, child, types)
    if child.run_after:
        yield Problem(f"{place}.run_after", "the only step of a loop has nothing to wait for", "put it on the loop")


def _loop_field_problems(place: str, loop: "StepDef") -> Iterator[Problem]:
    if loop.for_each is None:
        yield Problem(place, "a loop needs `for_each`", "such as `for_each: @steps('list').output`")
    elif not isinstance(loop.for_each, list) and not is_expression(loop.for_each):
        yield Problem(f"{place}.for_each", "neither a list nor a reference to one", "such as `@steps('list').output`")
    if loop.errors == "collect" and loop.stop_on_failure:
        why = "a loop that collects errors goes on after a failed item"
        yield Problem(f"{place}.stop_on_failure", why, "leave it out, or leave out `errors`")
    if not loop.steps:
        yield Problem(f"{place}.steps", "a loop needs at least one step", "such as `steps: {do: {type: …}}`")


def _expression_problems(scope: _Scope, place: str, step: "StepDef") -> Iterator[Problem]:
    own = (one for one in step.found() if one.path[0] != "output")  # that of a loop sees the loop's steps
    yield from _reference_problems(scope, place, own)
    yield from checks_polls.problems(place, step)
    yield from checks_conditions.problems(place, step)


def _reference_problems(scope: _Scope, place: str, read: Iterable[Found]) -> Iterator[Problem]:
    for found in read:
        here = place + written(found.path)
        if isinstance(found.expr, ExpressionInvalid):
            yield Problem(here, f"{found.expr.problem} in `{found.expr.expression:.120}`", found.expr.fix)
            continue
        for ref in refs(found.expr):
            yield from _one_reference(scope, here, ref)


def _is_sent(step: "StepDef") -> bool:
    """Whether somebody sends something to it."""
    return step.signal is not None or step.approval is not None


def _one_reference(scope: _Scope, place: str, ref: Ref) -> Iterator[Problem]:
    m = scope.manifest
    if ref.root == "step" and ref.key not in scope.visible:
        yield Problem(place, f"unknown step `{ref.key}`", did_you_mean(ref.key or "", scope.visible) or None)
    elif ref.member == "by" and not _is_sent(scope.visible[ref.key or ""]):
        yield Problem(place, f"nobody sends anything to `{ref.key}`", "name a step with `signal` or `approval`")
    elif ref.root == "output":
        why = "`@output()` is known in `until` of a step that polls only"
        yield Problem(place, why, "read a step: `@steps('key').output`")
    elif ref.root in {"item", "index"} and not scope.loops:
        yield Problem(place, f"`@{ref.root}()` is known inside a loop only", "use it in the inputs of the loop's step")
    elif ref.loop is not None and ref.loop not in scope.loops:
        yield Problem(place, f"`{ref.loop}` is not a loop around this", did_you_mean(ref.loop, scope.loops))
    elif ref.root == "headers" and ref.path and is_secret(str(ref.path[0])):
        yield Problem(place, f"the header `{ref.path[0]}` is never kept", "take what it says as an input of the flow")
    elif ref.root == "trigger" and ref.path:
        names = m.input_schema.get("properties")
        closed = m.input_schema.get("additionalProperties") is False
        if closed and isinstance(names, dict) and ref.path[0] not in names:
            hint = did_you_mean(str(ref.path[0]), names) or None
            yield Problem(place, f"the flow has no input `{ref.path[0]}`", hint)


def _output_problems(scope: _Scope) -> Iterator[Problem]:
    return _reference_problems(scope, "output", find(scope.manifest.output))


def _run_after_problems(scope: _Scope, key: str, step: "StepDef") -> Iterator[Problem]:
    read = {ref.key for ref in step.references()}
    for name, statuses in step.run_after.items():
        place = f"{scope.place}.{key}.run_after.{name}"
        if name not in scope.steps and name not in read:  # a wrong reference is named where it stands
            yield Problem(place, f"unknown step `{name}`", did_you_mean(name, scope.steps) or None)
        for status in statuses:
            if status not in FINAL_STEP:
                yield Problem(place, f"status `{status}` is not supported", "use succeeded, failed or skipped")


def _cycles(scope: _Scope) -> Iterator[Problem]:
    """One problem for each cycle; an edge of each is cut so that the next one shows."""
    graph = checks_joins.predecessors(scope.steps)
    while (cycle := _cycle(graph)) is not None:
        graph[cycle[1]].discard(cycle[0])  # graphlib lists each node before one that waits for it
        start = min(range(len(cycle) - 1), key=lambda i: list(scope.steps).index(cycle[i]))
        names = [*cycle[start:-1], *cycle[:start], cycle[start]]
        if len(names) == 2:
            place = f"{scope.place}.{names[0]}"
            yield Problem(place, "the step waits for itself", f"remove `{names[0]}` from its inputs")
        else:
            here = f"{scope.place}.{names[0]}"
            yield Problem(here, f"cycle: {' -> '.join(names)}", "remove one of these dependencies")


def _cycle(graph: Mapping[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return None


# ---- fields and JSON text -------------------------------------------------------------------------------------


def field_problem(error: ErrorDetails, model: type[BaseModel]) -> Problem:
    """A pydantic error as a problem; an unknown field gets a suggestion."""
    loc = _in_data(error["loc"])
    place = written(loc).lstrip(".") or "manifest"
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        return Problem(place, f"unknown field `{loc[-1]}`", did_you_mean(str(loc[-1]), known))
    if error["type"] == "union_tag_invalid":
        tag = error["ctx"]["tag"]
        return Problem(f"{place}.type", f"unknown type of trigger `{tag}`", did_you_mean(tag, TRIGGERS) or None)
    cause = error.get("ctx", {}).get("error")
    message = cause.message if isinstance(cause, OrchestratorError) else error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return Problem(place, "this field is required")
    message, fix, rest = message.partition(" Fix: ")
    given = error["input"]
    shown = f", got {given!r:.60}" if not fix and isinstance(given, str | int | float | None) else ""
    return Problem(place, message.rstrip(".") + shown, rest.rstrip(".") or None)


def _is_validator_name(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith(("function-", "json-or-python", "lax-or-strict"))


def _in_data(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where it stands in the data: without names of validators, and without the type that pydantic names after a
    trigger's key."""
    if loc[:1] == ("triggers",) and len(loc) > 2:
        loc = (*loc[:2], *loc[3:])
    return tuple(part for part in loc if not _is_validator_name(part))


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Field names of the model that a place of pydantic belongs to."""
    from orchestrator.core.manifest import Backoff, Retry, StepDef
    from orchestrator.core.polling import PollDef
    from orchestrator.core.signals import ApprovalDef, SignalDef

    if loc[:1] == ("triggers",) and len(loc) > 2:
        return list(TRIGGERS[str(loc[2])].model_fields)
    loc = _in_data(loc)
    kinds: dict[str, type[BaseModel]] = {"backoff": Backoff, "retry": Retry, "steps": StepDef, "poll": PollDef}
    kinds |= {"signal": SignalDef, "approval": ApprovalDef}
    for part in reversed(loc[-2:]):
        if part in kinds:
            model = kinds[str(part)]
            break
    return [field.alias or name for name, field in model.model_fields.items()]


def without_wrong_fields(data: dict[str, Any], places: Iterable[tuple[str | int, ...]]) -> dict[str, Any]:
    """A copy of `data` without what stands at `places`, so that the rest can be checked too."""
    kept = copy.deepcopy(data)
    kept.setdefault("name", "x")
    kept.setdefault("steps", {})
    for place in places:
        if parts := _in_data(place):
            _remove(kept, list(parts))
    return {"name": "x", "steps": {}, **kept}


def _remove(value: Any, place: list[str | int]) -> None:
    """Take away the last part of `place`, or the first one that stands outside a JSON object."""
    for part in place[:-1]:
        inner = value.get(part) if isinstance(value, dict) else None
        if not isinstance(inner, dict):
            break
        value = inner
    else:
        part = place[-1]
    if isinstance(value, dict):
        value.pop(part, None)


def read_json(text: str | bytes) -> tuple[dict[str, Any], list[Problem]]:
    """The object in `text`, and what is wrong with the text itself."""
    found: list[Problem] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        whole = dict(pairs)
        if len(whole) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = [(name, count) for name, count in counts.items() if count > 1]
            found.extend(Problem(name, f"the key `{name}` stands {count} times in one object") for name, count in twice)
        return whole

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as exc:
        return {}, [Problem("manifest", f"not JSON: {exc}")]
    if not isinstance(data, dict):
        return {}, [Problem("manifest", f"a JSON object is needed, not {type(data).__name__}")]
    return data, found
