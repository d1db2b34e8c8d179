"""Items of a loop run again: inside of each what failed, as in a run. The caller holds the run row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.core.plan import WINDOW, Node
from orchestrator.core.reopen import ItemGraph, Reset, compensated, reopen, sinks_open
from orchestrator.core.settling import Settle
from orchestrator.core.states import OPEN_STEP, StepStatus, target
from orchestrator.core.wording import item_failed
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.ledger import controls, graph, stops
from orchestrator.ledger.controls import Reopened

_PAGE = 500
_ALL = 1_000_000
_AGAIN = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})


@dataclass(slots=True)
class Resetting:
    """What an operator asked for. `only`: one item, or one step inside of an item; None: all that failed. `settled`: it
    does not run again, but is about to end like this."""

    held: HeldRun
    only: str | None = None
    settled: Settle | None = None
    items: list[str] = field(default_factory=list)
    """Found: items that are under way, and have steps that wait again."""
    loops: list[Node] = field(default_factory=list)
    """Found: loops inside of these that are under way, too, and have children that wait again."""
    stopped: set[str] = field(default_factory=set)
    """Found: steps of the items that a loop around them stopped: they run whatever was asked for, if their items do."""

    unmoved: StepStatus | None = None
    """Found: the one step that was asked for stays as it is, which is this."""

    def children(self, loop: Node, children: Sequence[str]) -> dict[str, StepStatus]:
        """These children of a loop wait for a place again; steps inside of them that make up for a failure which is
        taken back, and where they stand."""
        found: dict[str, StepStatus] = {}
        for start in range(0, len(children), _PAGE):
            page = children[start : start + _PAGE]
            if loop.graph is not None and not loop.inside:
                self.stopped |= stops.inside(self.held.tx, self.held.id, page)
            controls.reset_children(self.held.tx, self.held.id, page)
            if loop.graph is not None:
                for item, states in controls.states_in_items(self.held.tx, self.held.id, page).items():
                    found |= self._item(loop, item, states) if states else {}
        return found

    def _item(self, loop: Node, item: str, states: Mapping[str, StepStatus]) -> dict[str, StepStatus]:
        tx, run_id = self.held.tx, self.held.id
        within = ItemGraph.of(self.held.plan, loop, item)
        loops = [key for key, node in within.nodes.items() if node.is_loop]
        opened = controls.opened_loops(tx, run_id, loops) if loops else frozenset()
        ended = {one.step_key: target(one.event) for one in (self.settled,) if one and one.step_key in states}
        reset = reopen(within, states, set(self._seeds(states)) - ended.keys(), opened, ended)
        if self.only is not None and self.only in states.keys() - reset.waits.keys() and not ended:
            self.unmoved = states[self.only]
        controls.reset_blocked(tx, run_id, {**reset.waits, **dict.fromkeys(ended, (0, 0))})
        # What has its children is opened as soon as the item is; of what else may go, the wave counts what is loose.
        after = {
            **states,
            **ended,
            **dict.fromkeys(reset.waits, StepStatus.BLOCKED),
            **dict.fromkeys(reset.waits.keys() & opened, StepStatus.READY),
        }
        if self._count(item, sinks_open(within, after), reset) is StepStatus.RUNNING and (reset.waits or ended):
            self.items.append(item)
        found = compensated(within, states, reset.waits.keys() | ended.keys())
        for key in opened:
            found |= self._loop(within.nodes[key], states[key], again=key in reset.waits)
        return found

    def _count(self, item: str, sinks: int, reset: Reset) -> StepStatus | None:
        tx, run_id = self.held.tx, self.held.id
        reason = None
        if reset.failed:
            reason = item_failed(item, reset.failed[0], graph.failure(tx, run_id, reset.failed[0])["message"])
        return controls.recount_item(tx, run_id, item, sinks=sinks, failures=len(reset.failed), reason=reason)

    def _loop(self, loop: Node, status: StepStatus, *, again: bool) -> dict[str, StepStatus]:
        """A loop inside of an item, which waits `again`, or is under way with children that are to."""
        children = self._inner(loop, again=again)
        if not again and (status not in OPEN_STEP or not children):
            return {}
        if status is StepStatus.RUNNING:
            self.loops.append(loop)
        return self.children(loop, children)

    def _seeds(self, states: Mapping[str, StepStatus]) -> Iterator[str]:
        for key, status in states.items():
            left_out = status is StepStatus.SKIPPED and self._is_around(key)
            if left_out or key in self.stopped or (status in _AGAIN and (self.only is None or self._names(key))):
                yield key

    def _names(self, key: str) -> bool:
        """Whether this step was asked for, or something inside of it, or what it is a part of."""
        return self.only == key or self._is_around(key) or key.startswith(f"{self.only}.")

    def _is_around(self, key: str) -> bool:
        """Whether what was asked for is inside of this."""
        return self.only is not None and self.only.startswith(f"{key}.")

    def _inner(self, loop: Node, *, again: bool) -> list[str]:
        found: list[str] = []
        if self.only is not None and self._is_around(loop.key):
            found = one_child(self.held, loop, _child(loop, self.only))
        elif self.only is None or again:
            found = not_succeeded(self.held, loop)
        stopped = {_child(loop, key) for key in self.stopped if key.startswith(f"{loop.key}.")}
        return [*found, *sorted(stopped.difference(found))]


def _child(loop: Node, inside: str) -> str:
    """The child of the loop that this step is, or is inside of."""
    index = inside.removeprefix(f"{loop.key}.").partition(".")[0]
    return f"{loop.key}.{index}{loop.child_suffix}"


def not_succeeded(held: HeldRun, loop: Node) -> list[str]:
    """The children of a loop to run again. All of a loop with a graph, with those that are under way and in which
    something failed; of another one more than its window has places, at most."""
    tx, run_id = held.tx, held.id
    if loop.graph is None and not loop.inside:
        return controls.failed_children(tx, run_id, loop.key, WINDOW + 1)
    under_way = stops.to_mend(tx, run_id, loop.key) if loop.graph is not None else []
    return controls.failed_children(tx, run_id, loop.key, _ALL) + under_way


def one_child(held: HeldRun, loop: Node, step_key: str) -> list[str]:
    """It; with those that the loop did not let in because of its failure, if no other failure keeps them out."""
    if not loop.definition.stop_on_failure or graph.failed_in_loop(held.tx, held.id, loop.key) != 1:
        return [step_key]
    first = graph.first_failure(held.tx, held.id, loop.key)
    return not_succeeded(held, loop) if first and first.step_key == step_key else [step_key]


def reopen_loop(held: HeldRun, loop: Node) -> tuple[Reopened, list[str]]:
    """Count the children of a loop again, some of which wait again; with those that its window lets in."""
    counted = controls.reopen_loop(held.tx, held.id, loop.key, windowed=True)
    children = graph.waiting_children(held.tx, held.id, loop, max(loop.window - counted.moving, 0))
    aim(held, loop, counted, children)
    return counted, children


def aim(held: HeldRun, loop: Node, counted: Reopened, let_in: Sequence[str]) -> None:
    """Where all that wait stand in a row at the end, the next one is known, and none has to be looked up."""
    waiting = counted.open - counted.moving - len(let_in)
    behind = int(let_in[-1].removeprefix(f"{loop.key}.").partition(".")[0]) + 1 if let_in else counted.width
    if waiting == 0 or waiting == counted.width - behind:
        controls.aim_window(held.tx, held.id, loop.key, behind if waiting else None)
