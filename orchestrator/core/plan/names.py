"""What a step inside of loops may name, and where it stands in the rows of the run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.core.expressions.reads import Reads


@dataclass(frozen=True)
class Names:
    """What the steps of one scope may name, by how many loops it stands in: steps, and the loops around."""

    depth: int = 0
    steps: Mapping[str, int] = field(default_factory=dict)
    loops: Mapping[str, int] = field(default_factory=dict)

    def within(self, loop: str, steps: Iterable[str]) -> "Names":
        """Those of the steps inside of a loop."""
        depth = self.depth + 1
        return Names(depth, {**self.steps, **dict.fromkeys(steps, depth)}, {**self.loops, loop: depth})

    def row(self, step: str, item: str) -> str:
        """The key of a step's row, for somebody who runs for `item`."""
        around = item.split(".")[: 2 * self.steps[step]]
        return ".".join((*around, step))

    def placed(self, reads: Reads, item: str) -> Reads:
        """What is read, by the keys of rows."""
        around = item.split(".")
        named = [loop for loop in reads.loops if loop is not None and self.loops[loop] < self.depth]
        return replace(
            reads,
            outputs=tuple(self.row(key, item) for key in reads.outputs),
            ends=tuple(self.row(key, item) for key in reads.ends),
            senders=tuple(self.row(key, item) for key in reads.senders),
            items=tuple((loop, ".".join(around[: 2 * self.loops[loop]])) for loop in named),
            item=item if len(named) < len(reads.loops) else None,
        )
