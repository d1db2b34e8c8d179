"""What becomes of a step whose predecessors allow a decision: it waits, is skipped, or goes. The caller holds the
run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from orchestrator.core import skips
from orchestrator.core.gates import Decision, Edges, Join, decide
from orchestrator.core.plan import Node
from orchestrator.core.states import StepKind, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.signals import waits as signals
from orchestrator.engine.steps import conditions, races, reopening, waits
from orchestrator.engine.steps.loops import close_loop, open_loop
from orchestrator.engine.steps.wave import End, Tally, Wave
from orchestrator.ledger import controls, graph


@dataclass(frozen=True, slots=True)
class Waiting:
    """A step that was waiting when predecessors of it ended, and how many edges of it are open and unmet now."""

    node: Node
    open: int
    unmet: int

    @classmethod
    def of(cls, wave: Wave, row: Row[Any]) -> "Waiting":
        return cls(wave.node(row.step_key), row.deps_open, row.deps_unmet)

    @property
    def asks_more(self) -> bool:
        """Whether its predecessors' statuses have to be read, for the decision or for the reason of a skip."""
        return self.open == 0 and self.unmet > 0

    def decision(self, states: Mapping[str, StepStatus]) -> Decision:
        """What becomes of it."""
        before = self.node.definition.run_after
        skipped = 0
        if self.node.join is Join.NONE_FAILED and self.asks_more:
            skipped = sum(
                states[key] is StepStatus.SKIPPED and StepStatus.SKIPPED not in accepted
                for key, accepted in before.items()
            )
        return decide(self.node.join, Edges(self.open, len(before) - self.open - self.unmet, self.unmet, skipped))


def decide_all(wave: Wave, waiting: Iterable[Waiting]) -> None:
    """Each of these waits on, is skipped, or goes."""
    waiting = list(waiting)
    states = wave.statuses(key for one in waiting if one.asks_more for key in one.node.definition.run_after)
    decisions = [(one, one.decision(states)) for one in waiting]
    skipped = [one.node for one, what in decisions if what is Decision.SKIP]
    wave.skip({node.key: skips.by_join(node, states) for node in skipped})
    for one, what in decisions:
        if what is Decision.GO and not wave.has_ended(one.node.key):  # a race before it may have withdrawn it
            if one.open:
                races.decided(wave, one.node)
            open_step(wave, one.node)


def open_step(wave: Wave, node: Node) -> None:
    """Nothing is in the way of this step: it goes its own way."""
    if not node.plain:
        wave.write_skips()
        if not conditions.passes(wave, node):
            return
    match node.kind:
        case StepKind.TASK:
            if node.join is Join.ANY:
                races.forget_the_rest(wave, node)
            wave.freed.append(node.key)
        case StepKind.LOOP:
            _open_loop(wave, node)
        case StepKind.WAIT:
            _open_wait(wave, node)
        case StepKind.FLOW:
            wave.calls.append(node)
        case StepKind.MERGE:
            conditions.merge(wave, node)
        case StepKind.REQUIRE:
            conditions.require(wave, node)


def wake_step(wave: Wave, node: Node, step_key: str) -> None:
    """The time that this waiting step was given has come."""
    match node.kind:
        case StepKind.WAIT if node.awaited is not None:
            wave.end(signals.time_out(wave.held, node, node.awaited))
        case StepKind.WAIT:
            wave.end(waits.over(wave.held, step_key))
        case StepKind.FLOW:
            wave.calls.append(node)
        case _:
            raise AssertionError(f"step {step_key} of kind {node.kind} of run {wave.held.id} waits for no time")


def _open_loop(wave: Wave, node: Node) -> None:
    if node.inside and controls.opened_loops(wave.held.tx, wave.held.id, [node.key]):
        reopen_loop(wave, node)
        return
    opened = open_loop(wave.held, node)
    fp("expand.inserted")
    wave.dispatches += opened.dispatches
    let_in(wave, node, opened.items)
    if opened.ended is not None:
        wave.end(End(node.key, opened.ended, opened.error))


def reopen_loop(wave: Wave, node: Node) -> None:
    """Children of this loop wait again: those that its window lets in may go."""
    counted, children = reopening.reopen_loop(wave.held, node)
    let_in(wave, node, children)
    if counted.open == 0:
        wave.end(close(wave, node, counted.failed))


def close(wave: Wave, loop: Node, failed: int, stopped: str | None = None) -> End:
    """Every child of the loop has ended."""
    closed = close_loop(wave.held.tx, wave.held.id, loop, failed, stopped)
    return End(loop.key, closed.ended or StepStatus.FAILED, closed.error)


def let_in(wave: Wave, loop: Node, children: Sequence[str]) -> None:
    """These children of a loop may go; an item is let in with all that waits for nothing in it."""
    if loop.graph is None:
        wave.freed += children
        return
    entered = graph.enter_items(wave.held.tx, wave.held.id, loop, children) if children else []
    fp("items.entered")
    for item in entered:
        if item.fresh:
            for root in loop.graph.roots:
                open_step(wave, root.placed(item.key))
    look_again(wave, [item.key for item in entered if not item.fresh])


def look_again(wave: Wave, items: Sequence[str]) -> None:
    """Steps wait again in these items, which are under way; or the last one was settled, and its item is over."""
    if not items:
        return
    waiting = [Waiting.of(wave, row) for row in graph.waiting_in_items(wave.held.tx, wave.held.id, items)]
    decide_all(wave, waiting)
    for item in {*items} - {one.node.key.rpartition(".")[0] for one in waiting}:
        wave.tallies.setdefault(item, Tally())


def _open_wait(wave: Wave, node: Node) -> None:
    awaited = node.awaited
    end = waits.open_wait(wave.held, node) if awaited is None else signals.open_wait(wave.held, node, awaited)
    if end is None:
        fp("wait.parked")
    else:
        wave.end(end)
