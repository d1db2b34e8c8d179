"""Which statement records the completion of a step: the rule, written once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator.core.expressions import parse_bare, refs
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.gates import Join
from orchestrator.core.manifest import StepDef
from orchestrator.core.plan.edges import Edge, Place
from orchestrator.core.states import StepKind, StepStatus


class Path(Enum):
    """Which statement records a successful completion."""

    MID = "mid"  # one plain successor: one statement, which may claim it too
    ASK = "ask"  # one successor with a condition that needs nothing else: as `MID` where it holds, else as `GENERAL`
    OPEN = "open"  # one successor, a loop over a list in the output: one statement, which may claim the first child too
    SINK = "sink"  # no successor: one statement, which may end the run
    CHILD = "child"  # child of a loop: one statement; for the last one another, as `MID`, for a loop that has that path
    ITEM = "item"  # last step of an item: one statement, which ends the item and lets the next in; or as `GENERAL`
    GENERAL = "general"  # everything else: the run is locked, several statements


@dataclass(frozen=True)
class Beside:
    """Where a step stands."""

    steps: Mapping[str, StepDef]
    """Those of its scope."""
    inside: bool
    """Whether that is a loop's."""
    signals: bool
    """Whether a step of the manifest waits for one."""


def path_of(key: str, edges: Sequence[Edge], beside: Beside) -> Path:
    """Which statement records the success of this step."""
    step = beside.steps[key]
    if not edges and beside.inside:
        return Path.ITEM if _hands_on(key, beside.steps) else Path.GENERAL
    if not edges:  # the end of a run that may keep signals says which nobody took
        return Path.GENERAL if beside.signals else Path.SINK
    if step.is_loop and (step.errors == "collect" or step.is_graph):
        return Path.GENERAL
    target = beside.steps[edges[0].target]
    if len(edges) > 1 or StepStatus.SUCCEEDED not in edges[0].accepted:
        return Path.GENERAL
    if opens_without_a_look(target):
        return Path.MID
    if not beside.inside and _asks_only(key, target):
        return Path.ASK
    opens = target.is_loop and not target.is_graph and asks_nothing(target)
    items = Place.of(target.for_each) if opens else None
    return Path.OPEN if items is not None and items.source == key else Path.GENERAL


def _hands_on(last: str, steps: Mapping[str, StepDef]) -> bool:
    """Whether an item ends with this step, and begins with one that opens without a look."""
    first = [step for step in steps.values() if not step.run_after]
    waited_for = {key for step in steps.values() for key in step.run_after}
    one_way = len(first) == 1 and steps.keys() - waited_for == {last}
    return one_way and steps[last].kind is StepKind.TASK and opens_without_a_look(first[0])


def opens_without_a_look(step: StepDef) -> bool:
    return step.kind is StepKind.TASK and asks_nothing(step)


def _asks_only(key: str, step: StepDef) -> bool:
    """Whether it goes as soon as this predecessor succeeded, if its condition holds: one that reads the output of that
    and the run's input."""
    if step.kind is not StepKind.TASK or step.join is not Join.ALL or step.when is None or len(step.run_after) > 1:
        return False
    reads = read_by_condition(step)
    return not reads.more and set(reads.outputs) <= {key}


def read_by_condition(step: StepDef) -> Reads:
    return Reads.of(set(refs(parse_bare(step.when)))) if step.when is not None else Reads()


def asks_nothing(step: StepDef) -> bool:
    """Whether it goes as soon as every edge is met."""
    return step.join is Join.ALL and step.when is None
