"""What an operator's retry resets, decided from the graph and the states alone."""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from orchestrator.core.gates import Decision, Edges, Join, decide
from orchestrator.core.plan import Node, Plan, backwards
from orchestrator.core.states import FINAL_STEP, StepStatus

FOLLOWS = frozenset({StepStatus.SKIPPED, StepStatus.CANCELLED, StepStatus.BLOCKED})
"""States of a step that a retry upstream takes along."""
_EFFECTIVE = frozenset({StepStatus.SUCCEEDED, StepStatus.READY, StepStatus.RUNNING, StepStatus.WAITING})
"""States of a step whose effects are there, or may come."""
_NONE: Final[Mapping[str, StepStatus]] = MappingProxyType({})


class Graph(Protocol):
    """The steps of a run, or those of an item of a loop, by the keys of their rows."""

    @property
    def nodes(self) -> Mapping[str, Node]: ...

    @property
    def backwards(self) -> Sequence[str]:
        """Every step before those that it waits for."""
        ...

    def unhandled(self, key: str, states: Mapping[str, StepStatus]) -> bool:
        """Whether a step's failure fails the whole."""
        ...


@dataclass(frozen=True, slots=True)
class ItemGraph:
    """Those of an item."""

    plan: Plan
    nodes: Mapping[str, Node]

    @property
    def backwards(self) -> Sequence[str]:
        return backwards(self.nodes)

    @classmethod
    def of(cls, plan: Plan, loop: Node, item: str) -> "ItemGraph":
        """Those that run for this item of the loop."""
        assert loop.graph is not None
        placed = (node.placed(item) for node in loop.graph.nodes.values())
        return cls(plan, {node.key: node for node in placed})

    def unhandled(self, key: str, states: Mapping[str, StepStatus]) -> bool:
        return self.plan.unhandled(key, states)


@dataclass(frozen=True, slots=True)
class Reset:
    """`waits[key]` is (predecessors not ended, predecessors that ended otherwise than asked); those of them that are
    `going` may go at once."""

    waits: Mapping[str, tuple[int, int]]
    going: frozenset[str]
    impossible: frozenset[str]
    sinks_open: int
    failed: tuple[str, ...]
    """Steps that stay failed, with nothing that handles it: the run fails whatever comes of the others."""


def reopen(
    plan: Graph,
    states: Mapping[str, StepStatus],
    seeds: Collection[str],
    opened: Collection[str] = frozenset(),
    settled: Mapping[str, StepStatus] = _NONE,
) -> Reset:
    """Reset `seeds`, and everything after them that never ran because of them.

    A seed whose predecessors ended otherwise than asked cannot run: it is in `impossible` and stays as it is.
    `opened` are loops that have their children: their predecessors were asked once and for all. `settled` are steps
    that do not run again but end like this: what is after them is decided anew.
    """
    states = {**states, **settled} if settled else states
    waits: dict[str, tuple[int, int]] = {}
    anew = set(settled)
    going, impossible = set(), set()
    for key in reversed(plan.backwards):
        node = plan.nodes[key]
        if key in settled:
            continue
        if key in opened:
            if key in seeds:
                waits[key] = (0, 0)
                anew.add(key)
                going.add(key)
            continue
        if key not in seeds and not _follows(plan, key, states, anew):
            continue
        edges = _edges(node, states, waits)
        match decide(node.join, edges):
            case Decision.SKIP if key in seeds:
                impossible.add(key)
                continue
            case Decision.GO:
                going.add(key)
        waits[key] = (edges.open, edges.unmet)
        anew.add(key)
    after = {**states, **dict.fromkeys(waits, StepStatus.BLOCKED)}
    return Reset(
        waits=waits,
        going=frozenset(going),
        impossible=frozenset(impossible),
        sinks_open=sinks_open(plan, {**after, **dict.fromkeys(going, StepStatus.READY)}),
        failed=tuple(key for key in states if plan.unhandled(key, after)),
    )


def _follows(plan: Graph, key: str, states: Mapping[str, StepStatus], anew: Container[str]) -> bool:
    """Whether it never ran because of a step that is decided anew. What was withdrawn from a race that is over stays
    so."""
    node = plan.nodes[key]
    if states[key] not in FOLLOWS or not any(before in anew for before in node.definition.run_after):
        return False
    return states[key] is not StepStatus.SKIPPED or not is_withdrawn(plan, key, states)


def is_withdrawn(plan: Graph, key: str, states: Mapping[str, StepStatus]) -> bool:
    """Whether all that a step leads to was decided without it: nothing would follow from it."""
    edges = plan.nodes[key].edges
    return bool(edges) and all(
        states[edge.target] not in FOLLOWS and plan.nodes[edge.target].join is Join.ANY for edge in edges
    )


def _edges(node: Node, states: Mapping[str, StepStatus], waits: Collection[str]) -> Edges:
    """How the edges of a step stand once these are reset."""
    before = node.definition.run_after
    open_ = {key for key in before if key in waits or states[key] not in FINAL_STEP}
    unmet = {key for key, accepted in before.items() if key not in open_ and states[key] not in accepted}
    skipped = sum(states[key] is StepStatus.SKIPPED for key in unmet)
    return Edges(len(open_), len(before) - len(open_) - len(unmet), len(unmet), skipped)


def sinks_open(plan: Graph, states: Mapping[str, StepStatus]) -> int:
    """How many open steps nothing waits for: the run ends when they have."""
    blocked = {key for key, status in states.items() if status is StepStatus.BLOCKED}
    return sum(_ends_loose(plan, key, blocked) for key, status in states.items() if status not in FINAL_STEP)


def compensated(plan: Graph, states: Mapping[str, StepStatus], again: Collection[str]) -> dict[str, StepStatus]:
    """Steps that run only when one of `again` has failed, and succeeded or may still: what they do (a refund, say) is
    done, or on its way."""
    return {
        key: status
        for key, status in states.items()
        if status in _EFFECTIVE
        and any(
            before in again and StepStatus.FAILED in accepted and StepStatus.SUCCEEDED not in accepted
            for before, accepted in plan.nodes[key].definition.run_after.items()
        )
    }


def _ends_loose(plan: Graph, key: str, blocked: Collection[str]) -> bool:
    """Nothing waits for the step: it is a sink, or its successors ran already, after its failure."""
    return not any(edge.target in blocked for edge in plan.nodes[key].edges)
