"""Steps and fields that only an expression decides: `when`, requirements, merges. The caller holds the run."""

import json
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from orchestrator.core.expressions import EvaluationFailed, Expr, as_json, evaluate, holds, parse_bare, refs
from orchestrator.core.expressions.evaluate import Scope
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.expressions.shown import with_values
from orchestrator.core.facts import Lease
from orchestrator.core.plan import TRIGGER, Node
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.engine.steps.wave import End, Wave
from orchestrator.ledger import graph, scopes
from orchestrator.observe.logs import WHEN_FAILED

INVALID: Final = "ConditionInvalid"
"""The type of the error of a step whose condition cannot be evaluated. It is not retried."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Whether a condition holds, and how that is told; `failed` when it could not be evaluated."""

    holds: bool
    told: str
    failed: bool = False


def _read(wave: Wave, node: Node, text: str) -> tuple[Expr, Scope]:
    """The expression, and what it reads of what is recorded of the run."""
    expr = parse_bare(text)
    return expr, scopes.whole(wave.held.ledger, wave.held.tx, wave.held.id, node.seen(Reads.of(set(refs(expr)))))


def _decide(wave: Wave, node: Node, text: str) -> Decided:
    expr, scope = _read(wave, node, text)
    seen = wave.held.secrets.step(node.key).seen
    try:
        found = holds(expr, scope)
    except EvaluationFailed as exc:
        return Decided(False, f"{text} cannot be evaluated: {seen.told(exc)}", failed=True)
    return Decided(found, f"{text} is {str(found).lower()}{with_values(expr, scope, seen.hides)}")


def passes(wave: Wave, node: Node) -> bool:
    """Whether the step's `when` lets it go. If not, it is skipped; one that cannot be evaluated fails it, or skips it
    where the flow says so."""
    text = node.definition.when
    if text is None:
        return True
    decided = _decide(wave, node, text)
    if decided.failed and wave.held.plan.manifest.when_errors == "fail":
        facts: JsonValue = {"error": decided.told, "code": WHEN_FAILED}
        graph.event(wave.held.tx, wave.held.id, "step.when_failed", node.key, facts=facts)
        fail(wave, node, INVALID, f"when: {decided.told}")
    elif not decided.holds:
        wave.skip({node.key: f"when: {decided.told}"})
    return decided.holds


def foreseen(node: Node, lease: Lease, output: str) -> bool:
    """Whether the step's condition holds, by the output of its only predecessor and what that one was given. Neither
    ever changes, so it may be asked before the output is recorded. False also where it cannot be told."""
    expr = parse_bare(node.definition.when or "")
    if TRIGGER not in lease.known and Reads.of(set(refs(expr))).trigger:
        return False
    scope = Scope(trigger=lease.known.get(TRIGGER), outputs={lease.step_key: json.loads(output)})
    try:
        return holds(expr, scope)
    except EvaluationFailed:
        return False


def require(wave: Wave, node: Node) -> None:
    """A requirement holds, or fails with its message."""
    decided = _decide(wave, node, node.definition.require or "")
    if decided.failed:
        fail(wave, node, INVALID, f"require: {decided.told}")
    elif decided.holds:
        succeed(wave, node, None)
    else:
        fail(wave, node, "RequirementFailed", node.definition.message or decided.told)


def merge(wave: Wave, node: Node) -> None:
    """A merge succeeds at once with its value, which stays whatever comes later."""
    expr, scope = _read(wave, node, node.definition.value or "")
    try:
        value = as_json(evaluate(expr, scope))
    except EvaluationFailed as exc:
        why = wave.held.secrets.step(node.key).seen.sentence(exc)
        fail(wave, node, INVALID, f"value: {why}")
    else:
        succeed(wave, node, value)


def succeed(wave: Wave, node: Node, output: JsonValue, source: StepStatus = StepStatus.BLOCKED) -> None:
    """A step without a handler succeeds."""
    graph.succeed(wave.held.tx, wave.held.id, node.key, json.dumps(output), source)
    wave.end(End(node.key, StepStatus.SUCCEEDED))


def fail(wave: Wave, node: Node, type: str, message: str) -> None:
    """A step fails before any handler of it ran."""
    message = message[:2000]
    graph.end_step(wave.held.tx, wave.held.id, node.key, StepEvent.FAIL, reason=message)
    graph.event(wave.held.tx, wave.held.id, "step.failed", node.key, facts={"type": type, "message": message})
    wave.end(End(node.key, StepStatus.FAILED, {"step": node.key, "type": type, "message": message}))
