"""A manifest compiled for running: who follows whom, what each step reads, which path its completion takes."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any, Final

from pydantic import JsonValue

from orchestrator.core import waits
from orchestrator.core.expressions import Ref, is_expression, parse, parse_bare, references, refs
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.expressions.tree import Default, Value
from orchestrator.core.gates import Join
from orchestrator.core.inputs import Inputs
from orchestrator.core.manifest import Manifest, Retry, StepDef
from orchestrator.core.signals import Awaited, awaited
from orchestrator.core.states import StepKind, StepStatus
from orchestrator.errors import ExpressionInvalid

TRIGGER: Final = "@"
"""Stands for the trigger body among the outputs a step reads."""
SEPARATOR: Final = "\x1f"
DEFAULT_PRIORITY: Final = 5
WINDOW: Final = 256
"""How many children of a loop without `concurrency` are let in at once; each that ends lets in the next, mostly without
a message."""


class Path(Enum):
    """Which statement records a successful completion."""

    MID = "mid"  # one plain successor: one statement, which may claim it too
    ASK = "ask"  # one successor with a condition that needs nothing else: as `MID` where it holds, else as `GENERAL`
    OPEN = "open"  # one successor, a loop over a list in the output: one statement, which may claim the first child too
    SINK = "sink"  # no successor: one statement, which may end the run
    CHILD = "child"  # child of a loop: one statement; for the last one another, as `MID`, for a loop that has that path
    GENERAL = "general"  # everything else: the run is locked, several statements


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
        return _opens_without_a_look(self.definition)

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
            items=tuple((loop, ".".join(around[: 2 * self.loops[loop]])) for loop in named),
            item=item if len(named) < len(reads.loops) else None,
        )


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

    def item_rows(self, loop: str) -> str:
        """The step rows of an item of this loop, as JSON, all closed; what one needs of its own item begins with a
        dot."""
        return _as_json(self._row(node, loop) for node in self.nodes.values())

    def _row(self, node: Node, loop: str) -> dict[str, Any]:
        own = self.names.depth
        steps = self.names.steps
        needs = [
            key if key == TRIGGER else f".{key}" if steps[key] == own else self.names.row(key, loop)
            for key in node.needs
        ]
        return {**_row(node), "ready": None, "needs": SEPARATOR.join(needs), "item": bool(node.reads.loops) or None}


class Plan:
    """The compiled graph of one manifest. Immutable; shared by threads."""

    def __init__(self, manifest: Manifest, nodes: Mapping[str, Node]) -> None:
        self.manifest = manifest
        self.nodes = nodes

    @classmethod
    def of(cls, manifest: Manifest) -> "Plan":
        """Compile `manifest`, which validation has accepted."""
        waits = any(awaited(key, step) for key, step in _every_step(manifest.steps))
        build = _Builder(manifest, waits)
        return cls(manifest, build.nodes(manifest.steps, _Above(manifest.queue, None, Names())))

    def node(self, step_key: str) -> Node:
        """The node of a step's row. Children of a loop (`loop.3.body`) share its body's; what runs for an item
        (`loop.3`, `loop.3.step`) has one of its own."""
        first, dot, rest = step_key.partition(".")
        node = self.nodes[first]
        while dot:
            if node.graph is None:
                return node.body or node
            index, dot, rest = rest.partition(".")
            if not dot:
                return node.item(index)
            key, dot, rest = rest.partition(".")
            node = node.graph.nodes[key].placed(f"{node.key}.{index}")
        return node

    def every(self) -> Iterator[Node]:
        """Those of the manifest, and what is inside of loops, by their keys there."""
        left = list(self.nodes.values())
        while left:
            node = left.pop()
            yield node
            left += (
                [node.body] if node.body is not None else node.graph.nodes.values() if node.graph is not None else ()
            )

    def unhandled(self, key: str, states: Mapping[str, StepStatus]) -> bool:
        """Whether a step's failure fails the run: it has failed, must not, and no handler of that runs, ran or may
        still."""
        over = {StepStatus.SKIPPED, StepStatus.CANCELLED}
        node = self.node(key)
        if states[key] is not StepStatus.FAILED or node.definition.may_fail:
            return False
        return all(states[handler] in over for handler in node.handlers)

    @cached_property
    def sinks(self) -> int:
        """Steps that nothing waits for: the run ends when they all have."""
        return sum(node.is_sink for node in self.nodes.values())

    @cached_property
    def backwards(self) -> tuple[str, ...]:
        """The steps, each behind all that come after it."""
        return backwards(self.nodes)

    def roots(self) -> Iterator[Node]:
        """Steps that wait for nothing."""
        return (node for node in self.nodes.values() if not node.definition.run_after)

    @cached_property
    def awaited(self) -> Mapping[str, tuple[Node, ...]]:
        """The steps that wait for a signal, by its name, in the order of the manifest."""
        found: dict[str, tuple[Node, ...]] = {}
        for node in self.nodes.values():
            if (wait := node.awaited) is not None:
                found[wait.name] = (*found.get(wait.name, ()), node)
        return found

    @cached_property
    def goes_on_at_start(self) -> bool:
        """Whether more is to be done at once than the start statement does: open a step that is not plain, or end a run
        without steps."""
        return not self.nodes or any(not node.plain for node in self.roots())

    @cached_property
    def inputs(self) -> Inputs:
        """What a run's input has to be."""
        return Inputs(self.manifest.name, self.manifest.input_schema)

    @cached_property
    def rows(self) -> str:
        """The run's first step rows, as the JSON that the start statement expands; what is not in a row is null."""
        return _as_json(map(_row, self.nodes.values()))

    @cached_property
    def closed_rows(self) -> str:
        """The same, of a run of which the statement dispatches nothing: the caller opens it."""
        return _as_json({**_row(node), "ready": False} for node in self.nodes.values())


def backwards(nodes: Mapping[str, Node]) -> tuple[str, ...]:
    """The steps of one scope, each behind all that come after it."""
    order = TopologicalSorter({key: node.definition.run_after for key, node in nodes.items()}).static_order()
    return tuple(reversed(tuple(order)))


def seconds(value: timedelta | None) -> str | None:
    """A duration as PostgreSQL reads an interval."""
    return None if value is None else f"{value.total_seconds()} seconds"


def _as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    given = [{k: v for k, v in row.items() if v is not None} for row in rows]
    return json.dumps(given, separators=(",", ":"))


def _row(node: Node) -> dict[str, Any]:
    waits = len(node.definition.run_after)
    return {
        "step_key": node.key,
        "position": node.position,
        "kind": node.kind,
        "type": node.definition.type,
        "task": node.task,
        "ready": waits == 0 and node.plain,
        "deps_open": waits,
        "queue": node.queue,
        "priority": node.priority,
        "timeout": seconds(node.definition.timeout),
        "queue_timeout": seconds(node.definition.queue_timeout),
        "needs": SEPARATOR.join(node.needs),
    }


@dataclass(frozen=True)
class _Above:
    """What the steps of one scope inherit."""

    queue: str
    priority: int | None
    names: Names
    position: int | None = None
    """Of the loop that they run in."""


@dataclass(frozen=True)
class _Builder:
    manifest: Manifest
    waits: bool
    """Whether a step waits for a signal."""

    def nodes(self, steps: Mapping[str, StepDef], above: _Above) -> dict[str, Node]:
        """Those of one scope."""
        edges: dict[str, list[Edge]] = {key: [] for key in steps}
        for key, step in steps.items():
            for predecessor, accepted in step.run_after.items():
                edges[predecessor].append(Edge.of(key, step, accepted, self.manifest.format))
        inner = (
            above if above.names.steps else replace(above, names=replace(above.names, steps=dict.fromkeys(steps, 0)))
        )
        return {
            key: self._node(key, step, position if above.position is None else above.position, inner, edges[key], steps)
            for position, (key, step) in enumerate(steps.items())
        }

    def _node(
        self,
        key: str,
        step: StepDef,
        position: int,
        above: _Above,
        edges: Sequence[Edge],
        beside: Mapping[str, StepDef],
    ) -> Node:
        path = _path(step, key, edges, beside, above, self.waits)
        made = self._make(key, step, position, above, edges=tuple(edges), path=path)
        if path is Path.ASK:  # whoever finishes it asks the next one's condition
            trigger = made.reads.trigger or _of_condition(beside[edges[0].target]).trigger
            made = replace(made, reads=replace(made.reads, trigger=trigger))
        if not step.is_loop:
            return made
        inner = replace(above, queue=step.queue or above.queue, position=position)
        if step.priority is not None:
            inner = replace(inner, priority=step.priority)
        if not step.is_graph:
            ((child_key, child),) = step.steps.items()
            inner = replace(inner, names=above.names.within(key, ()))
            return replace(made, body=self._make(child_key, child, position, inner, loop=key, path=Path.CHILD))
        names = above.names.within(key, step.steps)
        nodes = self.nodes(step.steps, replace(inner, names=names))
        return replace(made, graph=Graph(nodes, names, step.output, Reads.of(references(step.output))))

    def _make(self, key: str, step: StepDef, position: int, above: _Above, **fields: Any) -> Node:
        priority = step.priority if step.priority is not None else above.priority
        return Node(
            **{"edges": (), "loop": None, **fields},
            key=key,
            position=position,
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


def _every_step(steps: Mapping[str, StepDef]) -> Iterator[tuple[str, StepDef]]:
    for key, step in steps.items():
        yield key, step
        yield from _every_step(step.steps)


def _path(
    step: StepDef, key: str, edges: Sequence[Edge], beside: Mapping[str, StepDef], above: _Above, waits: bool
) -> Path:
    if not edges:  # the end of a run that may keep signals says which nobody took
        return Path.GENERAL if above.names.depth or waits else Path.SINK
    if step.is_loop and (step.errors == "collect" or step.is_graph):
        return Path.GENERAL
    target = beside[edges[0].target]
    if len(edges) > 1 or StepStatus.SUCCEEDED not in edges[0].accepted:
        return Path.GENERAL
    if _opens_without_a_look(target):
        return Path.MID
    if not above.names.depth and _asks_only(key, target):
        return Path.ASK
    opens = target.is_loop and not target.is_graph and _asks_nothing(target)
    items = Place.of(target.for_each) if opens else None
    return Path.OPEN if items is not None and items.source == key else Path.GENERAL


def _opens_without_a_look(step: StepDef) -> bool:
    return step.kind is StepKind.TASK and _asks_nothing(step)


def _asks_only(key: str, step: StepDef) -> bool:
    """Whether it goes as soon as this predecessor succeeded, if its condition holds: one that reads the output of that
    and the run's input."""
    if step.kind is not StepKind.TASK or step.join is not Join.ALL or step.when is None or len(step.run_after) > 1:
        return False
    reads = _of_condition(step)
    return not reads.more and set(reads.outputs) <= {key}


def _of_condition(step: StepDef) -> Reads:
    return Reads.of(set(refs(parse_bare(step.when)))) if step.when is not None else Reads()


def _asks_nothing(step: StepDef) -> bool:
    """Whether it goes as soon as every edge is met."""
    return step.join is Join.ALL and step.when is None


def _reads(step: StepDef) -> Reads:
    time = {ref for one in waits.found(step) if not isinstance(one.expr, ExpressionInvalid) for ref in refs(one.expr)}
    asked = [one.values for one in (step.signal, step.approval) if one is not None]
    return Reads.of(references([step.inputs, step.for_each, *asked]) | time)
