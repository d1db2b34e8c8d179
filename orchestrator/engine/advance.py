"""The general path: what follows when steps end. The caller holds the run row.

A step waits until every predecessor has ended, whatever became of them; then it runs, or is skipped when one of them ended
otherwise than asked. So a step that has ended has only ended predecessors, and the run is over when its sinks are.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch, Finished, Lease
from orchestrator.core.planner import Node, Plan
from orchestrator.core.states import RunStatus, StepEvent, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.loops import close_loop, items_of, open_loop
from orchestrator.errors import LeaseLost
from orchestrator.ledger import graph
from orchestrator.ledger.graph import LockedRun


def fence(tx: Connection, lease: Lease) -> None:
    """End the lease's claim.

    Raises:
        LeaseLost: it is not live at its version any more.
    """
    if graph.end_claim(tx, lease.run_id, lease.step_key, lease.version, lease.owner) is None:
        raise LeaseLost(
            f"Step {lease.step_key} of run {lease.run_id} was taken over before fence {lease.version} could report. Fix: drop "
            "this result; if it repeats, raise the lease above the longest pause of the worker.",
            run_id=str(lease.run_id),
            step_key=lease.step_key,
            version=lease.version,
        )


@dataclass
class _Wave:
    """What one transaction has found out so far."""

    tx: Connection
    plan: Plan
    run: LockedRun
    ended: deque[tuple[str, StepStatus]] = field(default_factory=deque)
    dispatches: list[Dispatch] = field(default_factory=list)
    sinks: int = 0
    failures: int = 0
    error: JsonValue = None


def after(
    tx: Connection,
    plan: Plan,
    run: LockedRun,
    ended: Mapping[str, StepStatus],
    error: JsonValue = None,
) -> Finished:
    """Advance the run past the steps that just ended; end it when nothing is left.

    `error` explains the failure among `ended`, if there is one, to who reads the run.
    """
    if run.halt is not None:
        return _halted(tx, run)
    wave = _Wave(tx, plan, run, deque(ended.items()), error=error)
    while wave.ended:
        key, status = wave.ended.popleft()
        _step_ended(wave, key, status)
    return _settle(wave)


def begin(tx: Connection, plan: Plan, run: LockedRun) -> Finished:
    """Open the loops that wait for nothing; the start statement dispatched the plain steps."""
    wave = _Wave(tx, plan, run)
    for node in plan.roots():
        if node.is_loop:
            _open(wave, node)
    while wave.ended:
        _step_ended(wave, *wave.ended.popleft())
    return _settle(wave)


def _step_ended(wave: _Wave, key: str, status: StepStatus) -> None:
    node = wave.plan.node(key)
    if node.loop is not None:
        _child_ended(wave, node.loop, status)
        return
    if status is StepStatus.FAILED and not node.handles_failure:
        wave.failures += 1
    if node.is_sink:
        wave.sinks += 1
    counts = {edge.target: (1, 0 if status in edge.accepted else 1) for edge in node.edges}
    freed = [row for row in graph.predecessors_ended(wave.tx, wave.run.id, counts) if row.deps_open == 0]
    skipped = {row.step_key: _why(wave.plan, row.step_key, key, status) for row in freed if row.deps_unmet}
    graph.skip(wave.tx, wave.run.id, skipped)
    wave.ended.extend((skipped_key, StepStatus.SKIPPED) for skipped_key in skipped)
    going = [wave.plan.nodes[row.step_key] for row in freed if not row.deps_unmet]
    plain = [node.key for node in going if not node.is_loop]
    wave.dispatches += graph.ready(wave.tx, wave.run.id, plain, StepEvent.UNBLOCK)
    for loop in (node for node in going if node.is_loop):
        _open(wave, loop)


def _why(plan: Plan, key: str, last: str, status: StepStatus) -> str:
    accepted = plan.nodes[key].definition.run_after.get(last, ())
    if status in accepted:
        return "a predecessor ended otherwise than `run_after` asks"
    return f"{last} {'was ' if status is not StepStatus.FAILED else ''}{status}, `run_after` asks for {' or '.join(accepted)}"


def _open(wave: _Wave, node: Node) -> None:
    opened = open_loop(wave.tx, wave.run.id, node, items_of(wave.tx, wave.run.id, node))
    fp("expand.inserted")
    wave.dispatches += opened.dispatches
    if opened.ended is not None:
        wave.error = wave.error or opened.error
        wave.ended.append((node.key, opened.ended))


def _child_ended(wave: _Wave, loop_key: str, status: StepStatus) -> None:
    node = wave.plan.nodes[loop_key]
    count = graph.child_ended(wave.tx, wave.run.id, loop_key, failed=int(status is not StepStatus.SUCCEEDED))
    if count is None:
        return
    if count.open == 0:
        closed = close_loop(wave.tx, wave.run.id, node, count.failed)
        wave.error = wave.error or closed.error
        wave.ended.append((loop_key, closed.ended or StepStatus.FAILED))
        return
    wave.dispatches += _let_in(wave, node, count.next)


def _let_in(wave: _Wave, loop: Node, index: int | None) -> tuple[Dispatch, ...]:
    """The next child that the loop's window held back."""
    if index is None or loop.body is None:
        return ()
    keys = (
        graph.waiting_children(wave.tx, wave.run.id, loop.key, 1)
        if index < 0
        else [f"{loop.key}.{index - 1}.{loop.body.key}"]
    )
    return graph.ready(wave.tx, wave.run.id, keys, StepEvent.UNBLOCK)


def _settle(wave: _Wave) -> Finished:
    dispatches = tuple(wave.dispatches)
    if not wave.sinks and not wave.failures:
        return Finished(dispatches=dispatches)
    error = wave.error if wave.failures else None
    sinks_open, failures = graph.count_run(wave.tx, wave.run.id, sinks=wave.sinks, failures=wave.failures, error=error)
    if sinks_open:
        return Finished(dispatches=dispatches)
    status = RunStatus.FAILED if failures else RunStatus.SUCCEEDED
    graph.end_run(wave.tx, wave.run.id, status)
    return Finished(dispatches=dispatches, run_status=status)


def _halted(tx: Connection, run: LockedRun) -> Finished:
    """A cancelled or timed-out run starts nothing more; it ends with its last handler."""
    assert run.halt is not None
    if run.status in {RunStatus.PENDING, RunStatus.RUNNING, RunStatus.WAITING} and not graph.any_claimed(tx, run.id):
        graph.end_run(tx, run.id, run.halt)
        return Finished(run_status=run.halt)
    return Finished()
