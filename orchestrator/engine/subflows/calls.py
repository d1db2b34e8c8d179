"""A step that calls a flow: a run is started for it in the commit that opens it, and how that run ends is how it ends.

The caller holds the run of the step, the parent. Nothing here advances it: what ended is given back.
"""

import json
from typing import Final
from uuid import UUID

from pydantic import JsonValue
from uuid_utils.compat import uuid7

from orchestrator.core import retry
from orchestrator.core.expressions import EvaluationFailed, resolve
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.expressions.walk import references
from orchestrator.core.facts import StartRequest, StepError
from orchestrator.core.plan import Node
from orchestrator.core.states import FINAL_RUN, RunStatus, StepEvent, StepStatus
from orchestrator.engine.runs import accept
from orchestrator.engine.steps import stops
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.retrying import How, Reopened, reopen
from orchestrator.engine.steps.wave import DEEPEST, End, Wave
from orchestrator.errors import Conflict, FlowDisabled, InputInvalid, NotFound, OrchestratorError
from orchestrator.ledger import controls, definitions, graph, scopes, subflows
from orchestrator.ledger.subflows import Before, Child

TRIGGER: Final = "flow"
"""What starts such a run."""


class Refused(Exception):
    """No run is started for the step."""

    def __init__(self, error: StepError, *, retryable: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.retryable = retryable


def start(wave: Wave, node: Node) -> HeldRun | Reopened | End | None:
    """The run that does this step, accepted or retried, and not opened. If there is none to open: how the step ended,
    or None when it is tried again later, or waits for a run that is open already.

    A step that an operator runs again, now or (an item that had to wait for its place) with an earlier retry, goes on
    with the run that it called, if that was given the same: a second one would do everything again. A retry of its own
    is a new run, unless somebody saw to the last one meanwhile: it succeeded since, or is open.
    """
    held = wave.held
    last = subflows.delegate(held.tx, held.id, node.key)
    try:
        body = _input(held, node)
        found = None if last is None or node.definition.detached else _last(held, last)
        if found is not None and _is_input(held, found[0], given=body, stored=found[1]):
            return _adopt(held, node, found[0], wave.how)
        child = _accept(wave, node, body)
    except Refused as exc:
        return failed(held, node, exc.error, retryable=exc.retryable)
    subflows.link(held.tx, child.id, held.id, node.key, detached=node.definition.detached)
    return child


def _last(held: HeldRun, last: Before) -> tuple[Child, str] | None:
    """The run that it goes on with, if it still takes the same, and what that was given."""
    found = subflows.child(held.tx, last.child)
    if found is None or (last.retries and found[0].status in FINAL_RUN - {RunStatus.SUCCEEDED}):
        return None
    return found


def _is_input(held: HeldRun, child: Child, *, given: str, stored: str) -> bool:
    """Whether the run was started with this input."""
    return bool(held.ledger.plan(child.manifest_hash).inputs.accept(given).value == json.loads(stored))


def _adopt(held: HeldRun, node: Node, child: Child, how: How | None) -> Reopened | End | None:
    """Take what the run gave, wait for it, or have it retried. Without an operator, nobody is there to be refused: then
    the step fails."""
    graph.event(held.tx, held.id, "step.adopted", node.key, facts={"child": str(child.id)})
    if child.status is RunStatus.SUCCEEDED:
        return ended(held, node, child)
    if child.status not in FINAL_RUN:
        return None
    if how is not None:
        return reopen(held.ledger, held.tx, child.id, None, how)
    try:
        with held.tx.begin_nested():
            return reopen(held.ledger, held.tx, child.id, None, How(by=f"run {held.id}"))
    except Conflict as exc:
        raise _refused(exc) from exc


def opened(held: HeldRun, node: Node, child_id: UUID, status: RunStatus | None) -> End | None:
    """The run was opened, and may have ended with that; how the step ended, if it did."""
    if node.definition.detached:
        return _succeeded(held, node, str(child_id))
    if status not in FINAL_RUN:
        return None
    child = subflows.tell(held.tx, child_id)
    return None if child is None else ended(held, node, child)


def ended(held: HeldRun, node: Node, child: Child) -> End | None:
    """The run that does the step has ended; how the step did, None when another one is started later."""
    if child.status is RunStatus.SUCCEEDED:
        try:
            return _succeeded(held, node, _output(held, child))
        except EvaluationFailed as exc:
            why = held.ledger.secrets(child.manifest_hash).seen.sentence(exc)
            error = StepError("OutputInvalid", f"the output of run {child.id} of {child.flow} cannot be made: {why}")
            return failed(held, node, error, retryable=False)
    if held.run.halt is not None:
        reason = f"the run was {held.run.halt}"
        graph.end_step(held.tx, held.id, node.key, StepEvent.CANCEL, reason=reason)
        graph.event(held.tx, held.id, "step.cancelled", node.key, facts={"child": str(child.id)})
        return End(node.key, StepStatus.CANCELLED)
    return failed(held, node, StepError("RunFailed", _why(child)), retryable=True)


def failed(held: HeldRun, node: Node, error: StepError, *, retryable: bool) -> End | None:
    """The step failed; None when a retry is left: then it waits for its next try."""
    message = error.message[:2000]
    failures = controls.failures(held.tx, held.id, node.key) + 1
    if retryable and failures < node.retry.max_attempts and not stops.stopped(held, node.key):
        delay = retry.delay(node.retry.backoff, failures, held.ledger.jitter())
        subflows.park(held.tx, held.id, node.key, delay, message[:500])
        return None
    graph.end_step(held.tx, held.id, node.key, StepEvent.FAIL, reason=message, charged="failure")
    graph.event(held.tx, held.id, "step.failed", node.key, facts={"type": error.type, "message": message})
    facts: JsonValue = {"step": node.key, "type": error.type, "message": message}
    return End(node.key, StepStatus.FAILED, facts)


def _accept(wave: Wave, node: Node, body: str) -> HeldRun:
    held, flow, caller = wave.held, str(node.definition.flow), wave.caller
    if caller.depth >= DEEPEST:
        why = f"run {held.id} is called by {DEEPEST - 1} runs above it already, and calls {flow}"
        raise Refused(StepError("TooDeep", why), retryable=False)
    try:
        version = _version(held, flow, node.definition.flow_version)
        # One that is on its own from now on has a trace of its own, with a link to the step.
        trace = None if node.definition.detached else json.dumps(caller.trace.called(node.key))
        request = StartRequest(
            flow, body, tags=caller.tags, trigger=TRIGGER, trace=trace, run_id=uuid7(), version=version
        )
        return accept.accept_in(held.ledger, held.tx, request)[0]
    except (InputInvalid, FlowDisabled, NotFound, Conflict) as exc:
        raise _refused(exc, retryable=not isinstance(exc, InputInvalid)) from exc


def _refused(exc: OrchestratorError, *, retryable: bool = False) -> Refused:
    error = StepError(f"{type(exc).__module__}.{type(exc).__qualname__}", exc.message)
    return Refused(error, retryable=retryable)


def _version(held: HeldRun, flow: str, ordinal: int | None) -> str | None:
    if ordinal is None:
        return None
    found = definitions.version_at(held.tx, flow, ordinal)
    if found is None:
        raise NotFound(f"Flow {flow} has no version {ordinal}. Fix: see `orchestrator flow versions {flow}`.")
    return found


def _input(held: HeldRun, node: Node) -> str:
    scope = scopes.whole(held.ledger, held.tx, held.id, node.reads)
    try:
        given = {name: resolve(value, scope) for name, value in node.definition.inputs.items()}
    except EvaluationFailed as exc:
        why = held.secrets.step(node.key).seen.sentence(exc)
        raise _refused(InputInvalid(f"The input for flow {node.definition.flow} cannot be made: {why}.")) from None
    return json.dumps(given, ensure_ascii=False)


def _succeeded(held: HeldRun, node: Node, output: JsonValue) -> End:
    text = json.dumps(output, ensure_ascii=False, separators=(",", ":"))
    graph.succeed(held.tx, held.id, node.key, text, StepStatus.RUNNING)
    return End(node.key, StepStatus.SUCCEEDED)


def _output(held: HeldRun, child: Child) -> JsonValue:
    """What the flow that was called returned."""
    expression = held.ledger.manifest(child.manifest_hash).output
    return resolve(expression, scopes.whole(held.ledger, held.tx, child.id, Reads.of(references(expression))))


def _why(child: Child) -> str:
    error = child.error or {}
    name = f"run {child.id} of {child.flow}"
    if child.status is RunStatus.CANCELLED:
        by = f" by {error['by']}" if error.get("by") else ""
        return f"{name} was cancelled{by}: {error.get('message')}"
    if child.status is RunStatus.TIMED_OUT:
        return f"{name} passed its deadline"
    return f"{name} failed at {error.get('step', '?')}: {error.get('type', 'error')}: {error.get('message')}"
