"""Items of a loop run again: inside of each what failed, as in a run. The caller holds the run row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.plan import Node
from orchestrator.core.reopen import ItemGraph, compensated, reopen
from orchestrator.core.states import StepStatus
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.ledger import controls, graph
from orchestrator.ledger.controls import Reopened

_PAGE = 500
_ALL = 1_000_000
_AGAIN = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class Resetting:
    """What an operator asked for. `only`: one item, or one step inside of an item; None: all that failed."""

    held: HeldRun
    only: str | None = None

    def children(self, loop: Node, children: Sequence[str]) -> dict[str, StepStatus]:
        """These children of a loop wait for a place again; steps inside of them that make up for a failure which is
        taken back, and where they stand."""
        if loop.graph is None:
            controls.reset_children(self.held.tx, self.held.id, children)
            return {}
        found: dict[str, StepStatus] = {}
        for start in range(0, len(children), _PAGE):
            page = children[start : start + _PAGE]
            for item, states in controls.states_in_items(self.held.tx, self.held.id, page).items():
                found |= self._item(loop, item, states)
        return found

    def _item(self, loop: Node, item: str, states: Mapping[str, StepStatus]) -> dict[str, StepStatus]:
        tx, run_id = self.held.tx, self.held.id
        if not states:
            controls.reset_item(tx, run_id, item, None)
            return {}
        within = ItemGraph.of(self.held.plan, loop, item)
        loops = [key for key, node in within.nodes.items() if node.is_loop]
        opened = controls.opened_loops(tx, run_id, loops) if loops else frozenset()
        seeds = set(self._seeds(item, states))
        reset = reopen(within, states, seeds, opened)
        controls.reset_blocked(tx, run_id, reset.waits)
        controls.reset_item(tx, run_id, item, reset)
        found = compensated(within, states, reset.waits)
        for key in opened & reset.waits.keys():
            found |= self.children(within.nodes[key], self._inner(key))
        return found

    def _seeds(self, item: str, states: Mapping[str, StepStatus]) -> Iterator[str]:
        for key, status in states.items():
            if status in _AGAIN and (self.only is None or self._names(key)):
                yield key

    def _names(self, key: str) -> bool:
        """Whether this step was asked for, or something inside of it, or what it is a part of."""
        assert self.only is not None
        return f"{self.only}.".startswith(f"{key}.") or key.startswith(f"{self.only}.")

    def _inner(self, loop: str) -> list[str]:
        failed = controls.failed_children(self.held.tx, self.held.id, loop, _ALL)
        return [key for key in failed if self.only is None or self._names(key)]


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
