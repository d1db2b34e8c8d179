"""Loops: where their list comes from, how they open and close. The caller holds the run row."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.expressions import EvaluationFailed, resolve
from orchestrator.core.facts import Dispatch
from orchestrator.core.plan import Node
from orchestrator.core.states import StepEvent, StepStatus
from orchestrator.core.wording import an
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.ledger import graph, scopes
from orchestrator.ledger.graph import Items

_TOO_LARGE = (
    f"the results of its items are too large: a list of them has more than {graph.OUTPUT_LIMIT:,} bytes of JSON. "
    "Fix: store each elsewhere, and return where it is"
)
_TOO_MANY = (
    "for_each of loop {loop} gave {length:,} items, and a loop may have {limit:,}. Fix: split the list over several "
    "runs, or set ORCHESTRATOR_LOOP_LIMIT"
)
_KINDS = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
"""As `json_typeof` names them."""


@dataclass(frozen=True, slots=True)
class LoopChange:
    """`ended` is set when the loop is over; `error` says why it failed."""

    dispatches: tuple[Dispatch, ...] = ()
    ended: StepStatus | None = None
    error: JsonValue = None
    items: tuple[str, ...] = ()
    """Those to be let in, of a loop with a graph."""


def _items_of(held: HeldRun, node: Node) -> Items:
    """Where the loop's list stands. A plain reference is left to SQL, so that 10,000 items never pass through
    Python."""
    if node.items is not None:
        return node.items
    value = node.definition.for_each
    return json.dumps(resolve(value, scopes.whole(held.ledger, held.tx, held.id, node.reads)))


def open_loop(held: HeldRun, node: Node) -> LoopChange:
    """Insert the children and dispatch the first; a value that is not a list fails the loop, an empty one ends it."""
    tx, run_id = held.tx, held.id
    graph.take_time(tx)
    try:
        items = _items_of(held, node)
    except EvaluationFailed as exc:
        why = held.secrets.step(node.key).seen.sentence(exc)
        return _failed(tx, run_id, node, f"for_each of loop {node.key}: {why}")
    kind, length = _kind(tx, run_id, items)
    if kind in (None, "null") and node.format > 1:
        items, length = "[]", 0
    if length is None:
        given = "null" if kind is None or kind == "null" else an(kind)
        return _failed(tx, run_id, node, f"for_each of loop {node.key} gave {given}, not a list")
    if length > (limit := held.ledger.loop_limit):
        return _failed(tx, run_id, node, _TOO_MANY.format(loop=node.key, length=length, limit=limit))
    dispatches: tuple[Dispatch, ...] = ()
    if node.graph is None:
        dispatches = graph.expand(tx, run_id, node, items)
    else:
        graph.open_items(tx, run_id, node, items)
    if length == 0:
        graph.collect(tx, run_id, node, failed=False)
        return LoopChange(ended=StepStatus.SUCCEEDED)
    if node.graph is None:
        return LoopChange(dispatches=dispatches)
    return LoopChange(items=tuple(f"{node.key}.{n}" for n in range(min(length, node.window))))


def _kind(tx: Connection, run_id: UUID, items: Items) -> tuple[str | None, int | None]:
    if not isinstance(items, str):
        return graph.describe_items(tx, run_id, items)
    value: Any = json.loads(items)
    return _KINDS.get(type(value), "number"), len(value) if isinstance(value, list) else None


def close_loop(tx: Connection, run_id: UUID, node: Node, failed: int, stopped: str | None) -> LoopChange:
    """Every child has ended: collect their outputs, or what became of each, or fail with the first failure. One that
    was `stopped` with a loop around it, for this reason, is skipped instead of giving a list with holes."""
    graph.take_time(tx)
    if stopped is not None and (not failed or node.collects_errors):
        graph.skip(tx, run_id, {node.key: stopped}, StepEvent.LEAVE_OUT)
        return LoopChange(ended=StepStatus.SKIPPED)
    if not failed or node.collects_errors:
        if not graph.collect(tx, run_id, node, failed=bool(failed)):
            return _failed(tx, run_id, node, _TOO_LARGE)
        return LoopChange(ended=StepStatus.SUCCEEDED)
    first = graph.first_failure(tx, run_id, node.key)
    why = (first.error_message or first.reason) if first is not None else "it was cancelled"
    message = f"{failed} of its items failed; the first, {first.step_key if first is not None else '?'}: {why}"
    return _failed(tx, run_id, node, message, first.step_key if first is not None else None)


def _failed(tx: Connection, run_id: UUID, node: Node, message: str, step: str | None = None) -> LoopChange:
    """`step` is whose failure it was, if not the loop's own."""
    graph.end_step(tx, run_id, node.key, StepEvent.FAIL, reason=message)
    graph.event(tx, run_id, "step.failed", node.key, facts={"reason": message})
    error: JsonValue = {"step": step or node.key, "type": "LoopFailed", "message": message}
    return LoopChange(ended=StepStatus.FAILED, error=error)
