"""A step that goes before all its predecessors have ended: the first success was enough."""

from collections.abc import Iterator, Mapping

from orchestrator.core.plan import TRIGGER, Node
from orchestrator.core.reopen import Graph, sinks_open
from orchestrator.core.states import FINAL_STEP, StepStatus
from orchestrator.engine.steps.wave import End, Wave
from orchestrator.engine.steps.wholes import Whole
from orchestrator.ledger import graph

_NOT_BEGUN = (StepStatus.BLOCKED, StepStatus.READY, StepStatus.WAITING)


def decided(wave: Wave, node: Node) -> None:
    """The step goes. What leads only to it and has not begun is withdrawn, unless the rest is to be left alone; what
    runs goes on, and its end is counted for the end of the run, or of the item: nothing waits for it any more."""
    wave.write_skips()
    wave.early.add(node.key)
    whole = Whole.around(wave.held, node.key)
    before = _states(wave, whole)
    withdrawn = _withdraw(wave, node, whole.graph, before) if node.definition.rest == "withdraw" else []
    # They are open until the wave has looked at their ends.
    after = {**before, **dict.fromkeys((node.key, *withdrawn), StepStatus.READY)}
    wave.tally(node.key).sinks -= sinks_open(whole.graph, after) - sinks_open(whole.graph, before)
    for key in withdrawn:
        wave.end(End(key, StepStatus.SKIPPED))
        wave.skipped.append(wave.held.step(key))


def _states(wave: Wave, whole: Whole) -> dict[str, StepStatus]:
    """Where the steps stand, as the count of open sinks knows it: what may go is on its way, and what has ended is open
    as long as the wave has not looked at it."""
    moving = {*wave.going, *(end.key for end in wave.ended)}
    return {key: StepStatus.READY if key in moving else status for key, status in whole.states.items()}


def forget_the_rest(wave: Wave, node: Node) -> None:
    """A step that may go early sees what has ended by now, also in later attempts."""
    states = wave.statuses(node.reads.outputs)
    needs = [key for key in node.needs if key == TRIGGER or states[key] in FINAL_STEP]
    graph.set_needs(wave.held.tx, wave.held.id, node.key, needs)


def _withdraw(wave: Wave, node: Node, within: Graph, states: Mapping[str, StepStatus]) -> list[str]:
    winner = next(key for key, accepted in node.definition.run_after.items() if wave.statuses([key])[key] in accepted)
    moved = wave.going | {end.key for end in wave.ended}
    doomed = [key for key in _only_for(within, node) if states[key] in _NOT_BEGUN and key not in moved]
    if not doomed:
        return []
    return graph.withdraw(wave.held.tx, wave.held.id, doomed, f"withdrawn: {node.key} was decided by {winner}")


def _only_for(plan: Graph, node: Node) -> Iterator[str]:
    """The steps whose every way leads to `node`, the nearest first."""
    found = {node.key}
    for key in plan.backwards:
        edges = plan.nodes[key].edges
        if key != node.key and edges and all(edge.target in found for edge in edges):
            found.add(key)
            yield key
