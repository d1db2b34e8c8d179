"""What leads from one step of the graph to another, and where a value that one reads of another stands."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from orchestrator.core.expressions import Ref, is_expression, parse
from orchestrator.core.expressions.tree import Default, Value
from orchestrator.core.gates import Join
from orchestrator.core.manifest import StepDef
from orchestrator.core.states import StepStatus


@dataclass(frozen=True, slots=True)
class Edge:
    """What must become of the predecessor for `target` to run."""

    target: str
    accepted: frozenset[StepStatus]
    handles: bool = False
    """Whether `target` takes up a failure of the predecessor, when it gets to run: it asks for the failure, or is
    content with the success of another one."""

    @classmethod
    def of(cls, key: str, step: StepDef, accepted: Collection[StepStatus], format: int) -> "Edge":
        """That of a step, in a manifest of this format. In the first one, what takes a failure among other ends handles
        it, too."""
        also = format > 1 and StepStatus.SUCCEEDED in accepted
        asks = StepStatus.FAILED in accepted and not also
        return cls(key, frozenset(accepted), asks or step.join in (Join.ANY, Join.SOME))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands in the ledger: at a path of a step's output, or (no `source`) of the trigger body."""

    source: str | None
    path: tuple[str, ...]

    @classmethod
    def of(cls, value: Any) -> "Place | None":
        """What a plain reference points at; None for what is not one, or means something else in SQL."""
        ref = parse(value) if isinstance(value, str) and is_expression(value) else None
        if isinstance(ref, Default) and ref.other == Value(None):
            ref = ref.value
        if not isinstance(ref, Ref) or not _is_stored(ref) or not all(map(_means_the_same_in_sql, ref.path)):
            return None
        return cls(ref.key, tuple(str(part) for part in ref.path))


def _is_stored(ref: Ref) -> bool:
    """Whether it is a value of the ledger as it stands there: the trigger body or an output."""
    return ref.root == "trigger" or (ref.root == "step" and ref.member == "output")


def _means_the_same_in_sql(part: str | int) -> bool:
    """SQL takes `'0'` of a list for its first element, and counts -1 from the end only in some releases."""
    return not part.lstrip("-").isdigit() if isinstance(part, str) else part >= 0
