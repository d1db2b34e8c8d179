"""Compiles the steps of a manifest, scope by scope."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, repeat
from typing import Any, Final

from orchestrator.core import waits
from orchestrator.core.expressions import references, refs
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.manifest import Manifest, StepDef
from orchestrator.core.plan.edges import Edge, Place
from orchestrator.core.plan.names import Names
from orchestrator.core.plan.node import Graph, Node
from orchestrator.core.plan.paths import Beside, Path, path_of, read_by_condition
from orchestrator.errors import ExpressionInvalid

DEFAULT_PRIORITY: Final = 5


@dataclass(frozen=True)
class Above:
    """What the steps of one scope inherit."""

    queue: str
    priority: int | None
    names: Names
    position: int = 0
    """Of the loop that they run in, outermost."""


@dataclass(frozen=True)
class Builder:
    manifest: Manifest
    signals: bool
    """Whether a step waits for a signal."""

    def nodes(self, steps: Mapping[str, StepDef], above: Above) -> dict[str, Node]:
        """Those of one scope."""
        edges: dict[str, list[Edge]] = {key: [] for key in steps}
        for key, step in steps.items():
            for predecessor, accepted in step.run_after.items():
                edges[predecessor].append(Edge.of(key, step, accepted, self.manifest.format))
        named = above.names if above.names.steps else replace(above.names, steps=dict.fromkeys(steps, 0))
        beside = Beside(steps, inside=named.depth > 0, signals=self.signals)
        return {
            key: self._node(key, edges[key], beside, replace(above, names=named, position=place))
            for key, place in zip(steps, repeat(above.position) if beside.inside else count(), strict=False)
        }

    def _node(self, key: str, edges: Sequence[Edge], beside: Beside, above: Above) -> Node:
        step, path = beside.steps[key], path_of(key, edges, beside)
        made = self._make(key, step, above, edges=tuple(edges), path=path)
        if path is Path.ASK:  # whoever finishes it asks the next one's condition
            trigger = made.reads.trigger or read_by_condition(beside.steps[edges[0].target]).trigger
            made = replace(made, reads=replace(made.reads, trigger=trigger))
        return self._with_children(made, step, above) if step.is_loop else made

    def _with_children(self, loop: Node, step: StepDef, above: Above) -> Node:
        names = above.names.within(loop.key, step.steps if step.is_graph else ())
        priority = step.priority if step.priority is not None else above.priority
        inner = replace(above, queue=loop.queue, priority=priority, names=names)
        if step.is_graph:
            graph = Graph(self.nodes(step.steps, inner), names, step.output, Reads.of(references(step.output)))
            return replace(loop, graph=graph)
        ((key, child),) = step.steps.items()
        return replace(loop, body=self._make(key, child, inner, loop=loop.key, path=Path.CHILD))

    def _make(self, key: str, step: StepDef, above: Above, **fields: Any) -> Node:
        priority = step.priority if step.priority is not None else above.priority
        return Node(
            **{"edges": (), "loop": None, **fields},
            key=key,
            position=above.position,
            definition=step,
            task=f"{self.manifest.name}.{step.type}" if step.type else None,
            queue=step.queue or above.queue,
            priority=DEFAULT_PRIORITY if priority is None else priority,
            reads=_reads(step),
            body=None,
            items=Place.of(step.for_each),
            format=self.manifest.format,
            names=above.names,
        )


def _reads(step: StepDef) -> Reads:
    time = {ref for one in waits.found(step) if not isinstance(one.expr, ExpressionInvalid) for ref in refs(one.expr)}
    asked = [one.values for one in (step.signal, step.approval) if one is not None]
    return Reads.of(references([step.inputs, step.for_each, *asked]) | time)
