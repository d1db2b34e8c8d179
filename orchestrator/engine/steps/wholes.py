"""The steps that end together: those of the run, or those of an item of a loop. The caller holds the run row."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.reopen import Graph, ItemGraph
from orchestrator.core.states import StepStatus
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.ledger import controls, graph


@dataclass(frozen=True, slots=True)
class Whole:
    """Their graph, and where they stand. `item`: its key; of the run, none."""

    item: str
    graph: Graph
    states: Mapping[str, StepStatus]

    @classmethod
    def around(cls, held: HeldRun, step_key: str) -> "Whole":
        """What this step is a part of."""
        item = step_key.rpartition(".")[0]
        if not item:
            return cls(item, held.plan, controls.step_states(held.tx, held.id))
        loop = held.plan.node(item.rpartition(".")[0])
        states = controls.states_in_items(held.tx, held.id, [item])[item]
        return cls(item, ItemGraph.of(held.plan, loop, item), states)

    def count(self, held: HeldRun, sinks: int) -> None:
        """So many more steps are to end before it does."""
        if self.item:
            graph.count_item(held.tx, held.id, self.item, sinks=-sinks, failures=0, reason=None)
        else:
            graph.count_run(held.tx, held.id, sinks=-sinks, failures=0, error=None)
