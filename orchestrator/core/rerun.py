"""What a run made of another one keeps of it, decided from both graphs and the states alone."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Final

from orchestrator.core.expressions import Ref, refs
from orchestrator.core.manifest import StepDef
from orchestrator.core.plan import Node, Plan
from orchestrator.core.states import StepStatus
from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import StepNotFound, UsageError

_SETTLED: Final = frozenset({StepStatus.SUCCEEDED, StepStatus.SKIPPED})


@dataclass(frozen=True, slots=True)
class Rerun:
    """By step key, in the order of the graph that runs.

    `kept`: succeeded before, with their outputs. `settled`: were skipped for reasons that stand: all before them is
    kept as it was. `again`: run once more. `new`: the graph that runs has them, the one before had not. `dropped`: the
    other way round. `changed`: those of `kept` that read a part of the input that is another one now.
    """

    kept: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def states(self) -> Mapping[str, StepStatus]:
        """Of what is taken over, in any form."""
        return {
            **dict.fromkeys(self.kept, StepStatus.SUCCEEDED),
            **dict.fromkeys(self.settled, StepStatus.SKIPPED),
        }


@dataclass(frozen=True, slots=True)
class Before:
    """The run that is run again: its graph, and where its steps stand, children of loops left out."""

    plan: Plan
    states: Mapping[str, StepStatus]


def rerun(before: Before, target: Plan, step: str | None, fields: Collection[str] = ()) -> Rerun:
    """Without `step` nothing is kept. With it, what is neither the step nor after it and may stand: it succeeded, is
    the same step in both graphs, and so is all before it. `fields` of the input are others now."""
    kept = _kept(before, target, step, frozenset(fields)) if step is not None else {}
    left = [key for key in target.nodes if key not in kept]
    succeeded = tuple(key for key in target.nodes if kept.get(key) is StepStatus.SUCCEEDED)
    return Rerun(
        kept=succeeded,
        settled=tuple(key for key in target.nodes if kept.get(key) is StepStatus.SKIPPED),
        again=tuple(key for key in left if key in before.plan.nodes),
        new=tuple(key for key in left if key not in before.plan.nodes),
        dropped=tuple(key for key in before.plan.nodes if key not in target.nodes),
        changed=tuple(key for key in succeeded if _reads(target.nodes[key].definition, fields)),
    )


def changed_fields(before: object, now: object) -> frozenset[str]:
    """The parameters of a flow that differ between two inputs."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return frozenset()
    absent = object()
    return frozenset(name for name in before.keys() | now.keys() if before.get(name, absent) != now.get(name, absent))


def check_step(plan: Plan, step: str) -> None:
    """
    Raises:
        StepNotFound: the graph has no such step.
        UsageError: it is inside a loop.
    """
    loop = step.partition(".")[0]
    if loop != step and loop in plan.nodes:
        raise UsageError(
            f"{step} is inside the loop {loop}, and a run is run again from a step outside of loops. "
            f"Fix: run it again from {loop}."
        )
    if step in plan.nodes:
        return
    loop = next((key for key, node in plan.nodes.items() if step in node.definition.steps), "")
    if loop:
        raise UsageError(
            f"{step} is the body of the loop {loop}, and a run is run again from a step outside of loops. "
            f"Fix: run it again from {loop}."
        )
    raise StepNotFound(
        f"Flow {plan.manifest.name} has no step {step!r} in the version of this run. "
        f"Fix: {did_you_mean(step, plan.nodes)}",
        step_key=step,
    )


def _kept(before: Before, target: Plan, step: str, fields: frozenset[str]) -> dict[str, StepStatus]:
    """Closed under "before": whoever is kept has only predecessors that are."""
    kept: dict[str, StepStatus] = {}
    predecessors = {key: node.definition.run_after for key, node in target.nodes.items()}
    for key in TopologicalSorter(predecessors).static_order():
        status = before.states.get(key)
        if key == step or status not in _SETTLED or not all(name in kept for name in predecessors[key]):
            continue
        if _stands(before.plan.nodes.get(key), target.nodes[key], status, fields):
            kept[key] = status
    return kept


def _stands(before: Node | None, now: Node, status: StepStatus, fields: frozenset[str]) -> bool:
    """A result stands for a step of the same type and kind. That a step was skipped stands for the very same step, if
    nothing it reads is another."""
    if before is None:
        return False
    if status is StepStatus.SKIPPED:
        return before.definition == now.definition and not _reads(now.definition, fields)
    old, new = before.definition, now.definition
    return (old.type, old.flow, before.kind) == (new.type, new.flow, now.kind)


def _reads(step: StepDef, fields: Collection[str]) -> bool:
    """Whether it reads one of these parameters, or the input as a whole."""
    return any(ref.root == "trigger" and (not ref.path or ref.path[0] in fields) for ref in _references(step) if fields)


def _references(step: StepDef) -> Iterator[Ref]:
    """Also those of what is inside."""
    for expr in step.expressions():
        yield from refs(expr)
    for child in step.steps.values():
        yield from _references(child)
