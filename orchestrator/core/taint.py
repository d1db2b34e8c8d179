"""Which values of a flow are secret: what its types and its manifest say, and where its expressions carry that."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import JsonValue

from orchestrator.core.expressions import EvaluationFailed, Expr, Ref, is_expression, parse, parse_bare, refs
from orchestrator.core.expressions.tree import Call, Default
from orchestrator.core.secrets import (
    ANY,
    NAMES,
    NOTHING,
    WHOLE,
    Paths,
    below,
    in_schema,
    is_name,
    masked,
    normal_name,
    within,
)
from orchestrator.core.signals import awaited
from orchestrator.core.states import StepKind
from orchestrator.errors import ExpressionInvalid

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest, StepDef

_TELLING: Final = frozenset({"length", "contains"})
"""Functions whose result does not show what they were given."""
_UNTOLD: Final = "it reads a secret, so its values are not shown here"


def secret_names(manifest: "Manifest", names: Collection[str] = NAMES) -> frozenset[str]:
    """Fields that are secret by their names in a flow: these, which are in every flow, and its own."""
    return frozenset(names) | set(map(normal_name, manifest.secret_names))


@dataclass(frozen=True)
class Seen:
    """What is secret of what expressions at one place can name."""

    names: Collection[str] = ()
    trigger: Paths = NOTHING
    outputs: Mapping[str, Paths] = field(default_factory=dict)
    items: Mapping[str | None, Paths] = field(default_factory=dict)
    """By loop; None: the innermost."""

    def of(self, expr: Expr) -> Paths:
        """What is secret of what the expression gives."""
        match expr:
            case Ref():
                return self._of_ref(expr)
            case Default():
                return self.of(expr.value) | self.of(expr.other)
            case Call() if expr.function not in _TELLING:
                return WHOLE if any(map(self.of, expr.arguments)) else NOTHING
            case _:  # a comparison says whether, not what
                return NOTHING

    def _of_ref(self, ref: Ref) -> Paths:
        if any(is_name(part, self.names) for part in ref.path):
            return WHOLE
        match ref.root:
            case "trigger":
                return within(self.trigger, *ref.path)
            case "step" if ref.member == "output":
                return within(self.outputs.get(ref.key or "", NOTHING), *ref.path)
            case "item":
                return within(self.items.get(ref.loop, NOTHING), *ref.path)
            case _:
                return NOTHING

    def of_value(self, value: JsonValue) -> Paths:
        """What is secret of a structure with expressions."""
        if isinstance(value, str) and is_expression(value):
            try:
                return self.of(parse(value))
            except ExpressionInvalid:
                return NOTHING
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return frozenset(path for key, one in parts for path in below(key, self._of_part(key, one)))

    def _of_part(self, key: str | int, value: JsonValue) -> Paths:
        return WHOLE if is_name(key, self.names) else self.of_value(value)

    def of_bare(self, text: str) -> Paths:
        """What is secret of what the expression of a field gives that holds nothing else."""
        try:
            return self.of(parse_bare(text))
        except ExpressionInvalid:
            return NOTHING

    def hides(self, expr: Expr) -> bool:
        """Whether it reads something of which anything is secret."""
        return any(self._of_ref(ref) for ref in refs(expr))

    def told(self, exc: EvaluationFailed) -> str:
        """Why an expression cannot be evaluated, without the secrets that it read."""
        return exc.problem if not self.hides(exc.expr) else _UNTOLD

    def sentence(self, exc: EvaluationFailed) -> str:
        """The same, with the expression."""
        return f"`{exc.expression}` cannot be evaluated: {self.told(exc)}"


@dataclass(frozen=True)
class StepSecrets:
    """What is secret of what a step is given and of what it returns, and of what it can name."""

    seen: Seen = Seen()
    inputs: Paths = NOTHING
    output: Paths = NOTHING

    @property
    def any(self) -> bool:
        return bool(self.inputs or self.output)


class FlowSecrets:
    """Those of one version of a flow. `names` are the fields that are secret in every flow of this installation."""

    def __init__(self, manifest: "Manifest", names: Collection[str] = NAMES) -> None:
        self.names = secret_names(manifest, names)
        self._manifest = manifest
        self._steps: dict[tuple[str, ...], StepSecrets] = {}
        self.input = in_schema(manifest.input_schema, self.names)
        """Of the input of a run."""
        self._top = self._scope(manifest.steps, (), Seen(self.names, self.input))
        self._given: dict[str, Paths] = {}

    @cached_property
    def output(self) -> Paths:
        """Of what the flow returns."""
        typed = in_schema(self._manifest.output_schema or {}, self.names)
        return self._top.of_value(self._manifest.output) | typed

    @property
    def seen(self) -> Seen:
        """What is secret of what the flow's output can name."""
        return self._top

    def step(self, step_key: str) -> StepSecrets:
        """Those of a step, by the key of its row."""
        return self._steps.get(tuple(step_key.split(".")[::2]), _NONE)

    def given(self, step_key: str, by: "Takes") -> Paths:
        """What is secret of the inputs of a step whose function this is: by where they come from, and by its types."""
        key = ".".join(step_key.split(".")[::2])
        found = self._given.get(key)
        if found is None:
            found = self._given[key] = self.step(step_key).inputs | in_schema(by.takes, self.names)
        return found

    def shown(self, value: JsonValue, paths: Paths) -> JsonValue:
        """A value for people: fields with secret names are masked wherever they stand."""
        return masked(value, paths, self.names)

    # ---- compiling ----

    def _scope(self, steps: "Mapping[str, StepDef]", above: tuple[str, ...], seen: Seen) -> Seen:
        """All steps of one scope, in an order in which what they read is known."""
        for key in _in_order(steps):
            made = self._step(steps[key], (*above, key), seen)
            self._steps[*above, key] = made
            if made.output:
                seen = replace(seen, outputs={**seen.outputs, key: made.output})
        return seen

    def _step(self, step: "StepDef", path: tuple[str, ...], seen: Seen) -> StepSecrets:
        match step.kind:
            case StepKind.LOOP:
                return StepSecrets(seen, NOTHING, self._of_loop(step, path, seen))
            case StepKind.MERGE:
                return StepSecrets(seen, NOTHING, seen.of_bare(step.value or ""))
            case StepKind.WAIT:
                wait = awaited(path[-1], step)
                return StepSecrets(seen, NOTHING, NOTHING if wait is None else in_schema(wait.form, self.names))
            case _:
                return StepSecrets(seen, seen.of_value(dict(step.inputs)), frozenset(step.secret))

    def _of_loop(self, step: "StepDef", path: tuple[str, ...], seen: Seen) -> Paths:
        item = within(seen.of_value(step.for_each), ANY)
        inside = replace(seen, items={**seen.items, path[-1]: item, None: item})
        last = self._scope(step.steps, path, inside)
        only = (*path, next(iter(step.steps)))
        each = last.of_value(step.output) if step.is_graph else self._steps[only].output
        return below(ANY, below("value", each) if step.errors == "collect" else each)


class Takes(Protocol):
    """A step's function."""

    @property
    def takes(self) -> Mapping[str, Any]:
        """The JSON Schema of its inputs."""


_NONE: Final = StepSecrets()


def _in_order(steps: "Mapping[str, StepDef]") -> Iterator[str]:
    before = {key: [one for one in step.run_after if one in steps] for key, step in steps.items()}
    try:
        yield from TopologicalSorter(before).static_order()
    except CycleError:  # a manifest that is refused for it
        yield from steps
