"""Edges that a body asks for: `after=[succeeded(a), ended(b), skipped(c)]`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.authoring.placeholder import Placeholder, node_of, refuse
from orchestrator.core.checks_joins import ANY_END
from orchestrator.core.manifest import StepDef
from orchestrator.core.states import StepStatus
from orchestrator.core.wording import an

Statuses = tuple[StepStatus, ...]
JoinName = Literal["all", "any", "some", "none_failed", "all_done"]
"""What a step asks of its predecessors together: see the manifest's `join`."""
_ANY: Final[Statuses] = tuple(sorted(ANY_END))


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """How a step has to end for another one to run."""

    result: object
    statuses: Statuses


def succeeded(result: object, /) -> Edge:
    """It succeeded: what `after=[result]` means too."""
    return Edge(result, (StepStatus.SUCCEEDED,))


def failed(result: object, /) -> Edge:
    """It failed. A step that asks for that, and not for its success, handles the failure."""
    return Edge(result, (StepStatus.FAILED,))


def skipped(result: object, /) -> Edge:
    """It was skipped."""
    return Edge(result, (StepStatus.SKIPPED,))


def ended(result: object, /) -> Edge:
    """It ended, however."""
    return Edge(result, _ANY)


def run_after(owner: object, after: Iterable[object], plain: Statuses = (StepStatus.SUCCEEDED,)) -> dict[str, Statuses]:
    """`run_after` for results of steps, their keys, and edges; of several edges to one step, each will do. `plain` is
    what a result asks for that stands alone."""
    found: dict[str, Statuses] = {}
    for one in after:
        edge = one if isinstance(one, Edge) else Edge(one, plain)
        found = united(found, {key_of(owner, edge.result, "after"): edge.statuses})
    return found


def united(one: Mapping[str, Statuses], other: Mapping[str, Statuses]) -> dict[str, Statuses]:
    """Both; an edge that is in both takes the ends of either."""
    return {key: tuple(sorted({*one.get(key, ()), *other.get(key, ())})) for key in {**one, **other}}


def key_of(owner: object, one: object, name: str) -> str:
    """The key of a step, given itself or as its result; `name` is what it was given to.

    Raises:
        AuthoringError: it is neither.
    """
    if isinstance(one, str):
        return one
    if not isinstance(one, Placeholder):
        refuse(f"`{name}` holds {an(type(one).__name__)}", f"give the results of steps, such as `{_SUCH[name]}`")
    node = node_of(one)
    if node.owner is not owner or node.ref.key is None:
        refuse(f"`{name}` holds {node.label}, which is not a step of this flow", "give the result of a step")
    return node.ref.key


def takes_any_end(steps: Mapping[str, StepDef]) -> bool:
    """Whether a step waits for the end of another one, however it ended. Only from the second format on, that handles
    no failure."""
    edges = (edge for step in steps.values() for edge in step.run_after.values())
    return any({StepStatus.FAILED, StepStatus.SUCCEEDED} <= set(edge) for edge in edges)


_SUCH: Final = {"after": "after=[checked]", "always": "always(charged)", "on_failure": "on_failure(charged)"}
