"""Steps that wait for a signal or an answer: how they open, and what becomes of them when their time is over.

The caller holds the run row.
"""

from dataclasses import replace
from typing import Any

from pydantic import JsonValue

from orchestrator.core.expressions import EvaluationFailed, resolve
from orchestrator.core.facts import StepError
from orchestrator.core.plan import Node
from orchestrator.core.signals import TITLE_LIMIT, Awaited, key_text, time_of
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.wave import End
from orchestrator.ledger import graph, scopes, signals
from orchestrator.ledger.signals import Wait


def open_wait(held: HeldRun, node: Node, awaited: Awaited) -> End | None:
    """The oldest signal that was kept for it, else the step is parked. Its end, when it has one already."""
    try:
        wait = _wait(held, node, awaited)
    except EvaluationFailed as exc:
        why = held.secrets.step(node.key).seen.sentence(exc)
        return _failed(held, node, StepError("ExpressionInvalid", f"{awaited.what}: {why}"))
    except ValueError as exc:
        return _failed(held, node, StepError("ExpressionInvalid", f"{awaited.what}: {exc}"))
    # An approval keeps no answers: nobody is asked before.
    tried = None
    while (id := signals.kept(held.tx, held.id, awaited.name, wait.key)) not in (None, tried):
        if signals.take(held.tx, held.id, node.key, awaited, id) is not None:  # else it has expired since
            fp("signal.taken")
            return End(node.key, StepStatus.SUCCEEDED)
        tried = id
    signals.park(held.tx, held.id, wait)
    return None


def time_out(held: HeldRun, node: Node, awaited: Awaited) -> End:
    """Nothing came in time: the step fails, or succeeds with what was said for that case."""
    signals.close(held.tx, held.id, node.key)
    facts: dict[str, JsonValue] = {"name": awaited.name, "default": awaited.default is not None}
    graph.event(held.tx, held.id, "signal.timed_out", node.key, facts=facts)
    if awaited.default is not None:
        signals.take_default(held.tx, held.id, node.key, awaited.default[0])
        return End(node.key, StepStatus.SUCCEEDED)
    who = "nobody answered" if awaited.approval is not None else f"signal {awaited.name} did not come"
    return _failed(held, node, StepError(awaited.error, f"{who} in time"))


def _wait(held: HeldRun, node: Node, awaited: Awaited) -> Wait:
    """
    Raises:
        EvaluationFailed: an expression of it cannot be evaluated.
        ValueError: one gives what cannot be a key, a time or a name.
    """
    approval = awaited.approval
    asked: JsonValue = {"key": awaited.key, "until": awaited.until}
    if approval is not None:
        asked = {"key": "", "until": None, **approval.values}
    found: Any = resolve(asked, scopes.whole(held.ledger, held.tx, held.id, node.reads))
    until = None if awaited.until is None else time_of(found["until"])
    wait = Wait(node.key, awaited, key_text(found["key"]), until)
    if approval is None:
        return wait
    shown = _shown(held, node, found["show"])
    return replace(wait, title=_title(found["title"]), assignee=_name(found["to"]), shown=shown)


def _title(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TITLE_LIMIT:
        raise ValueError(f"`title` gives {value!r:.60}, and it has to be a text of 1 to {TITLE_LIMIT} characters")
    return value


def _shown(held: HeldRun, node: Node, value: JsonValue) -> JsonValue:
    """What people are shown has no secrets: it is stored apart, to be listed."""
    asked = node.definition.approval
    secrets = held.secrets
    return value if asked is None else secrets.shown(value, secrets.step(node.key).seen.of_value(dict(asked.show)))


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"`to` gives {value!r:.60}, which is not the name of anybody")
    return value


def _failed(held: HeldRun, node: Node, error: StepError) -> End:
    graph.end_step(held.tx, held.id, node.key, StepEvent.FAIL, reason=error.message)
    facts: dict[str, JsonValue] = {"type": error.type, "message": error.message}
    graph.event(held.tx, held.id, "step.failed", node.key, facts=facts)
    return End(node.key, StepStatus.FAILED, {"step": node.key, **facts})
