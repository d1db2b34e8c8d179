"""One step of a compiled graph, and the graph that runs for each item of a loop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from pydantic import JsonValue

from orchestrator.core.expressions.reads import Reads
from orchestrator.core.gates import Join
from orchestrator.core.manifest import Retry, StepDef
from orchestrator.core.plan.edges import Edge, Place
from orchestrator.core.plan.names import Names
from orchestrator.core.plan.paths import Path, opens_without_a_look
from orchestrator.core.signals import Awaited, awaited
from orchestrator.core.states import StepKind

TRIGGER: Final = "@"
"""Stands for the trigger body among the outputs a step reads."""
WINDOW: Final = 256
"""How many children of a loop without `concurrency` are let in at once; each that ends lets in the next, mostly without
a message."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the graph, or the body of a loop (then `loop` is the loop's key)."""

    key: str
    position: int
    definition: StepDef
    task: str | None
    queue: str
    priority: int
    reads: Reads
    edges: tuple[Edge, ...]
    loop: str | None
    body: "Node | None"
    path: Path
    """Of a loop: as what its end is recorded, by its last child."""
    items: Place | None
    """Where the list of a loop stands, unless it has to be computed."""
    format: int
    """Of its manifest: rules that changed hold from one format on."""
    graph: "Graph | None" = None
    """Of a loop: what runs for each of its items, unless that is one plain step, the `body`."""
    names: "Names | None" = None
    """Inside of a `graph`: where what it names stands."""
    is_item: bool = False
    """Whether it stands for one item of a loop with a graph; `definition` is that of the loop."""

    def placed(self, item: str) -> "Node":
        """It, as it runs for this item of its loop: all keys are those of the rows."""
        assert self.names is not None
        definition, names = self.definition, self.names
        if definition.run_after:
            before = {f"{item}.{key}": accepted for key, accepted in definition.run_after.items()}
            definition = definition.model_copy(update={"run_after": before})
        key = f"{item}.{self.key}"
        return replace(
            self,
            key=key,
            definition=definition,
            reads=names.placed(self.reads, item),
            edges=tuple(replace(edge, target=f"{item}.{edge.target}") for edge in self.edges),
            body=self.body and self.body.placed_below(key),
            items=self.items and replace(self.items, source=self.items.source and names.row(self.items.source, item)),
        )

    def placed_below(self, loop: str) -> "Node":
        """It, the body of a loop that is placed there. Its own item stands in its own row."""
        assert self.names is not None
        return replace(self, loop=loop, reads=replace(self.names.placed(self.reads, f"{loop}.0"), item=None))

    def item(self, index: str | int) -> "Node":
        """The node of an item of this loop, which has a graph."""
        assert self.graph is not None
        key = f"{self.key}.{index}"
        return replace(
            self,
            key=key,
            reads=self.graph.names.placed(self.graph.reads, key),
            edges=(),
            loop=self.key,
            path=Path.GENERAL,
            items=None,
            is_item=True,
        )

    def every(self) -> "Iterator[Node]":
        """It, and what is inside of it, by their keys in the manifest."""
        yield self
        inner = self.graph.nodes.values() if self.graph is not None else () if self.body is None else (self.body,)
        for node in inner:
            yield from node.every()

    @property
    def needs(self) -> tuple[str, ...]:
        """Whose outputs its inputs hold, as its row says it; `TRIGGER` for the run's input."""
        return (*((TRIGGER,) if self.reads.trigger else ()), *self.reads.outputs)

    @property
    def awaited(self) -> Awaited | None:
        """The signal that it waits for."""
        return awaited(self.key, self.definition)

    @property
    def kind(self) -> StepKind:
        return StepKind.ITEM if self.is_item else self.definition.kind

    def seen(self, reads: Reads) -> Reads:
        """What is read of what it can name, by the keys of rows."""
        if not self.inside:
            return reads
        assert self.names is not None
        return self.names.placed(reads, self.key.rpartition(".")[0])

    @property
    def inside(self) -> bool:
        """Whether it runs for an item of a loop."""
        return self.names is not None and self.names.depth > 0

    @property
    def child_suffix(self) -> str:
        """What stands behind the index in the keys of this loop's children."""
        return f".{self.body.key}" if self.body is not None else ""

    @property
    def is_loop(self) -> bool:
        return self.kind is StepKind.LOOP

    @property
    def join(self) -> Join:
        """How it joins its predecessors."""
        return self.definition.join

    @property
    def plain(self) -> bool:
        """Whether it opens without a look, when every edge is met: it has a handler and nothing else to ask. Whatever
        ends before another step takes the general path."""
        return opens_without_a_look(self.definition)

    @property
    def window(self) -> int:
        """How many children of this loop are let in at once."""
        return self.definition.concurrency or WINDOW

    @property
    def collects_errors(self) -> bool:
        """Whether this loop succeeds with failed items, and gives an outcome for each."""
        return self.definition.errors == "collect"

    @property
    def is_sink(self) -> bool:
        return self.loop is None and not self.edges

    @property
    def retry(self) -> Retry:
        return self.definition.retry or Retry()

    @property
    def handlers(self) -> tuple[str, ...]:
        """The successors that take up a failure of this step: it fails the run only if none of them gets to run."""
        return tuple(edge.target for edge in self.edges if edge.handles)

    @property
    def only_successor(self) -> str:
        return self.edges[0].target


@dataclass(frozen=True)
class Graph:
    """What runs for each item of a loop."""

    nodes: Mapping[str, Node]
    names: Names
    output: JsonValue
    reads: Reads
    """Of the output."""

    @cached_property
    def sinks(self) -> int:
        """Steps that nothing waits for: the item ends when they all have."""
        return sum(node.is_sink for node in self.nodes.values())

    @cached_property
    def roots(self) -> tuple[Node, ...]:
        """Steps that wait for nothing."""
        return tuple(node for node in self.nodes.values() if not node.definition.run_after)
