"""A manifest compiled for running: who follows whom, what each step reads, which path its completion takes."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any, Final

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
        return self.definition.kind

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


class Plan:
    """The compiled graph of one manifest. Immutable; shared by threads."""

    def __init__(self, manifest: Manifest, nodes: Mapping[str, Node]) -> None:
        self.manifest = manifest
        self.nodes = nodes

    @classmethod
    def of(cls, manifest: Manifest) -> "Plan":
        """Compile `manifest`, which validation has accepted."""
        edges: dict[str, list[Edge]] = {key: [] for key in manifest.steps}
        for key, step in manifest.steps.items():
            for predecessor, accepted in step.run_after.items():
                edges[predecessor].append(Edge.of(key, step, accepted, manifest.format))
        waits = any(awaited(key, step) for key, step in manifest.steps.items())
        build = _Builder(manifest, {key: tuple(found) for key, found in edges.items()}, waits)
        return cls(manifest, {key: build.node(key, position) for position, key in enumerate(manifest.steps)})

    def node(self, step_key: str) -> Node:
        """The node of a step key; children of a loop (`loop.3.body`) share its body's."""
        loop, dot, _ = step_key.partition(".")
        node = self.nodes[loop]
        return node.body if dot and node.body is not None else node

    def unhandled(self, key: str, states: Mapping[str, StepStatus]) -> bool:
        """Whether a step's failure fails the run: it has failed, must not, and no handler of that runs, ran or may
        still."""
        over = {StepStatus.SKIPPED, StepStatus.CANCELLED}
        if states[key] is not StepStatus.FAILED or self.nodes[key].definition.may_fail:
            return False
        return all(states[handler] in over for handler in self.nodes[key].handlers)

    @cached_property
    def sinks(self) -> int:
        """Steps that nothing waits for: the run ends when they all have."""
        return sum(node.is_sink for node in self.nodes.values())

    @cached_property
    def backwards(self) -> tuple[str, ...]:
        """The steps, each behind all that come after it."""
        order = TopologicalSorter({key: node.definition.run_after for key, node in self.nodes.items()}).static_order()
        return tuple(reversed(tuple(order)))

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
class _Builder:
    manifest: Manifest
    edges: Mapping[str, tuple[Edge, ...]]
    waits: bool
    """Whether a step waits for a signal."""

    def node(self, key: str, position: int) -> Node:
        step = self.manifest.steps[key]
        body = None
        if step.is_loop:
            ((child_key, child),) = step.steps.items()
            body = self._make(child_key, child, position, loop=key, parent=step)
        return self._make(key, step, position, body=body)

    def _make(
        self,
        key: str,
        step: StepDef,
        position: int,
        *,
        loop: str | None = None,
        body: Node | None = None,
        parent: StepDef | None = None,
    ) -> Node:
        edges = () if loop else self.edges[key]
        path = Path.CHILD if loop else self._path(key, edges)
        reads = _reads(step)
        if path is Path.ASK:  # whoever finishes it asks the next one's condition
            reads = replace(reads, trigger=reads.trigger or _of_condition(self.manifest.steps[edges[0].target]).trigger)
        inherited = parent or step
        priority = step.priority if step.priority is not None else inherited.priority
        return Node(
            key=key,
            position=position,
            definition=step,
            task=f"{self.manifest.name}.{step.type}" if step.type else None,
            queue=step.queue or inherited.queue or self.manifest.queue,
            priority=DEFAULT_PRIORITY if priority is None else priority,
            reads=reads,
            edges=edges,
            loop=loop,
            body=body,
            path=path,
            items=Place.of(step.for_each),
            format=self.manifest.format,
        )

    def _path(self, key: str, edges: tuple[Edge, ...]) -> Path:
        if not edges:  # the end of a run that may keep signals says which nobody took
            return Path.GENERAL if self.waits else Path.SINK
        if self.manifest.steps[key].errors == "collect":
            return Path.GENERAL
        target = self.manifest.steps[edges[0].target]
        if len(edges) > 1 or StepStatus.SUCCEEDED not in edges[0].accepted:
            return Path.GENERAL
        if _opens_without_a_look(target):
            return Path.MID
        if _asks_only(key, target):
            return Path.ASK
        items = Place.of(target.for_each) if target.is_loop and _asks_nothing(target) else None
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
