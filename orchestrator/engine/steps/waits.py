"""Steps that wait for a time: how they open, and how they end. The caller holds the run row."""

from pydantic import JsonValue

from orchestrator.core import waits as rules
from orchestrator.core.plan import Node
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.core.waits import WaitInvalid
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.wave import End
from orchestrator.ledger import graph, scopes, waits


def open_wait(held: HeldRun, node: Node) -> End | None:
    """Park the step until its time; its end when that is past, or cannot be told."""
    try:
        until = rules.over(node.definition, scopes.whole(held.ledger, held.tx, held.id, node.reads))
    except WaitInvalid as exc:
        return _failed(held, node, str(exc))
    return None if waits.park(held.tx, held.id, node.key, until) else End(node.key, StepStatus.SUCCEEDED)


def over(held: HeldRun, step_key: str) -> End:
    """The time of this wait has come."""
    waits.end(held.tx, held.id, step_key)
    return End(step_key, StepStatus.SUCCEEDED)


def _failed(held: HeldRun, node: Node, message: str) -> End:
    graph.end_step(held.tx, held.id, node.key, StepEvent.FAIL, reason=message)
    facts: dict[str, JsonValue] = {"type": "InputInvalid", "message": message}
    graph.event(held.tx, held.id, "step.failed", node.key, facts=facts)
    return End(node.key, StepStatus.FAILED, {"step": node.key, **facts})
