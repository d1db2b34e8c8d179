"""Items of a loop with a graph: each ends as a run does, in the small. The caller holds the run row."""

import json

from pydantic import JsonValue

from orchestrator.core.expressions import EvaluationFailed, Scope, resolve
from orchestrator.core.facts import Lease
from orchestrator.core.plan import TRIGGER, Node
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.core.wording import item_failed
from orchestrator.engine.faults import fp
from orchestrator.engine.steps.wave import End, Tally, Wave
from orchestrator.ledger import graph, scopes
from orchestrator.ledger.graph import ItemCount


def foreseen(item: Node, lease: Lease, output: str) -> str | None:
    """The output of an item (JSON text) that ends with the step of this lease: made of the output of that, and of what
    it was given. None where it needs more, or cannot be made."""
    known, reads = {**lease.known, lease.step_key: json.loads(output)}, item.reads
    if reads.more or reads.loops or (reads.trigger and TRIGGER not in known) or not known.keys() >= set(reads.outputs):
        return None
    outputs = scopes.by_name({key: known[key] for key in reads.outputs})
    try:
        return json.dumps(resolve(item.definition.output, Scope(trigger=known.get(TRIGGER), outputs=outputs)))
    except EvaluationFailed:
        return None


def settle(wave: Wave) -> None:
    """Count off what ended in items; one of which every sink has ended, is over."""
    for key in [key for key in wave.tallies if key]:
        tally = wave.tallies.pop(key)
        reason = _reason(key, tally.error) if tally.failures else None
        count = graph.count_item(
            wave.held.tx, wave.held.id, key, sinks=tally.sinks, failures=tally.failures, reason=reason
        )
        if count is not None and count.open == 0:
            wave.end(_end(wave, wave.node(key), tally, count))


def _reason(item: str, error: JsonValue) -> str:
    assert isinstance(error, dict)
    return item_failed(item, str(error["step"]), error["message"])


def _end(wave: Wave, item: Node, tally: Tally, count: ItemCount) -> End:
    held, key = wave.held, item.key
    if count.failed:
        return _failed(wave, key, count.reason or "")
    if count.reason is not None or not (tally.ran or graph.any_ran(held.tx, held.id, key)):
        why = count.reason or "all of its steps were skipped"
        graph.skip(held.tx, held.id, {key: why}, StepEvent.LEAVE_OUT)
        return End(key, StepStatus.SKIPPED)
    try:
        output = resolve(item.definition.output, scopes.whole(held.ledger, held.tx, held.id, item.reads))
    except EvaluationFailed as exc:
        return _failed(wave, key, f"its output cannot be made: {exc}")
    graph.succeed(held.tx, held.id, key, json.dumps(output), StepStatus.RUNNING)
    fp("item.ended")
    return End(key, StepStatus.SUCCEEDED)


def _failed(wave: Wave, key: str, message: str) -> End:
    held = wave.held
    graph.end_step(held.tx, held.id, key, StepEvent.FAIL, reason=message)
    graph.event(held.tx, held.id, "step.failed", key, facts={"type": "ItemFailed", "message": message})
    return End(key, StepStatus.FAILED, {"step": key, "type": "ItemFailed", "message": message})
