"""Which steps become ready when something is over, as a manifest says it."""

from collections import Counter
from collections.abc import Iterable, Iterator

from orchestrator.core.plan import Node, Plan
from orchestrator.core.states import StepKind


def opened(plan: Plan, step_key: str | None) -> Counter[str]:
    """Where steps become ready when this one has ended (None: when a run begins): how many, by queue.

    What follows another wait, or a run of another flow, is not looked for, nor what comes behind the end of an item; of
    a loop each first step counts once.
    """
    nodes = plan.roots() if step_key is None else _after(plan, plan.node(step_key))
    return _ready(_past(plan, nodes))


def _after(plan: Plan, node: Node) -> Iterator[Node]:
    return (plan.node(edge.target) for edge in node.edges)


def _past(plan: Plan, nodes: Iterable[Node]) -> Iterator[Node]:
    """What takes no time is passed by."""
    for node in nodes:
        if node.kind in (StepKind.MERGE, StepKind.REQUIRE):
            yield from _past(plan, _after(plan, node))
        else:
            yield node


def _ready(nodes: Iterable[Node]) -> Counter[str]:
    found: Counter[str] = Counter()
    for node in nodes:
        if node.kind is StepKind.TASK:
            found[node.queue] += 1
        elif node.is_loop:
            found += _ready(node.graph.roots if node.graph is not None else (node.body,) if node.body else ())
    return found
