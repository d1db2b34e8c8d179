"""The general path: what follows when steps end. The caller holds the run row.

A step waits until every predecessor has ended, whatever became of them; then it runs, or is skipped when one of them
ended otherwise than asked. So a step that has ended has only ended predecessors, and the run is over when the steps
that nothing waits for are: its sinks, and those an operator retried after their failure had been handled.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch, Finished, Lease
from orchestrator.core.planner import Node, Plan
from orchestrator.core.states import FINAL_RUN, RunStatus, StepEvent, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps.loops import close_loop, items_of, open_loop
from orchestrator.errors import LeaseLost
from orchestrator.ledger import graph
from orchestrator.ledger.graph import LockedRun


def fence(tx: Connection, lease: Lease) -> None:
    """End the lease's claim.

    Raises:
        LeaseLost: it is not live at its version any more.
    """
    if graph.end_claim(tx, lease.run_id, lease.step_key, lease.fence, lease.owner) is None:
        raise lost(lease)


def lost(lease: Lease) -> LeaseLost:
    """The error of a worker that comes too late."""
    return LeaseLost(
        f"Step {lease.step_key} of run {lease.run_id} was taken over, or ended, before fence {lease.fence} could "
        "report. Fix: drop this result; if it repeats, raise the lease above the longest pause of the worker.",
        run_id=str(lease.run_id),
        step_key=lease.step_key,
        version=lease.fence,
    )


@dataclass
class _Wave:
    """What one transaction has found out so far."""

    tx: Connection
    plan: Plan
    run: LockedRun
    ended: deque[tuple[str, StepStatus, JsonValue]] = field(default_factory=deque)
    """Key, status, and what explains a failure."""
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
    return _run_out(_Wave(tx, plan, run, deque((key, status, error) for key, status in ended.items())))


def begin(tx: Connection, plan: Plan, run: LockedRun) -> Finished:
    """Open the loops that wait for nothing; the start statement dispatched the plain steps. A run without steps
    ends."""
    if not plan.nodes:
        graph.end_run(tx, run.id, RunStatus.SUCCEEDED)
        return Finished(run_status=RunStatus.SUCCEEDED)
    return open_loops(tx, plan, run, [node for node in plan.roots() if node.is_loop])


def open_loops(
    tx: Connection, plan: Plan, run: LockedRun, loops: Iterable[Node], full: Iterable[Node] = ()
) -> Finished:
    """Open `loops`; close those of `full`, which have every child's output already."""
    wave = _Wave(tx, plan, run)
    for node in loops:
        _open(wave, node)
    for node in full:
        wave.ended.append((node.key, *_close(wave, node, failed=0)))
    return _run_out(wave)


def _run_out(wave: _Wave) -> Finished:
    while wave.ended:
        _step_ended(wave, *wave.ended.popleft())
    return _settle(wave)


def _step_ended(wave: _Wave, key: str, status: StepStatus, error: JsonValue) -> None:
    node = wave.plan.node(key)
    if node.loop is not None:
        _child_ended(wave, node.loop, status)
        return
    if status is StepStatus.FAILED and _unhandled(wave, key):
        wave.failures += 1
        wave.error = wave.error or error
    counts = {edge.target: (1, 0 if status in edge.accepted else 1) for edge in node.edges}
    waiting = graph.predecessors_ended(wave.tx, wave.run.id, counts)
    # A sink; or a step that was retried after its successors had run on its failure: nothing waits for it any more.
    wave.sinks += not waiting
    freed = [row for row in waiting if row.deps_open == 0]
    skipped = {row.step_key: _why(wave, row.step_key) for row in freed if row.deps_unmet}
    graph.skip(wave.tx, wave.run.id, skipped)
    _count_unhandled(wave, skipped)
    wave.ended.extend((skipped_key, StepStatus.SKIPPED, None) for skipped_key in skipped)
    going = [wave.plan.nodes[row.step_key] for row in freed if not row.deps_unmet]
    plain = [node.key for node in going if not node.is_loop]
    wave.dispatches += graph.ready(wave.tx, wave.run.id, plain, StepEvent.UNBLOCK)
    for loop in (node for node in going if node.is_loop):
        _open(wave, loop)


def _unhandled(wave: _Wave, key: str) -> bool:
    handlers = wave.plan.nodes[key].handlers
    return not handlers or wave.plan.unhandled(key, graph.statuses(wave.tx, wave.run.id, [key, *handlers]))


def _count_unhandled(wave: _Wave, skipped: Iterable[str]) -> None:
    """A failure counts after all when the last step that asked for it has been skipped."""
    nodes = wave.plan.nodes
    before = (item for key in skipped for item in nodes[key].definition.run_after.items())
    for key in {name for name, accepted in before if StepStatus.FAILED in accepted}:
        if _unhandled(wave, key):
            wave.failures += 1
            wave.error = wave.error or graph.failure(wave.tx, wave.run.id, key)


def _why(wave: _Wave, key: str) -> str:
    """The first predecessor, in the manifest's order, that ended otherwise than asked."""
    before = wave.plan.nodes[key].definition.run_after
    ended = graph.statuses(wave.tx, wave.run.id, list(before))
    name = next(name for name, accepted in before.items() if ended[name] not in accepted)
    verb = "" if ended[name] in {StepStatus.FAILED, StepStatus.SUCCEEDED} else "was "
    return f"{name} {verb}{ended[name]}, `run_after` asks for {' or '.join(before[name])}"


def _open(wave: _Wave, node: Node) -> None:
    opened = open_loop(wave.tx, wave.run.id, node, items_of(wave.tx, wave.run.id, node))
    fp("expand.inserted")
    wave.dispatches += opened.dispatches
    if opened.ended is not None:
        wave.ended.append((node.key, opened.ended, opened.error))


def _close(wave: _Wave, node: Node, failed: int) -> tuple[StepStatus, JsonValue]:
    closed = close_loop(wave.tx, wave.run.id, node, failed)
    return closed.ended or StepStatus.FAILED, closed.error


def _child_ended(wave: _Wave, loop_key: str, status: StepStatus) -> None:
    node = wave.plan.nodes[loop_key]
    count = graph.child_ended(wave.tx, wave.run.id, loop_key, failed=int(status is not StepStatus.SUCCEEDED))
    if count is None:
        return
    if count.open == 0:
        wave.ended.append((loop_key, *_close(wave, node, count.failed)))
        return
    wave.dispatches += _let_in(wave.tx, wave.run.id, node, count.next)


def make_room(tx: Connection, run_id: UUID, loop: Node) -> tuple[Dispatch, ...]:
    """Let one more child in while another waits for its back-off. A `concurrency` the user set counts waiting
    children."""
    if loop.definition.concurrency is not None:
        return ()
    return _let_in(tx, run_id, loop, graph.let_in_one_more(tx, run_id, loop.key))


def _let_in(tx: Connection, run_id: UUID, loop: Node, index: int | None) -> tuple[Dispatch, ...]:
    """The next child that the loop's window held back."""
    if index is None or loop.body is None:
        return ()
    if index < 0:
        keys = graph.waiting_children(tx, run_id, loop, 1, start=-1 - index)
    else:
        keys = [f"{loop.key}.{index - 1}.{loop.body.key}"]
    return graph.ready(tx, run_id, keys, StepEvent.UNBLOCK)


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
    if run.status not in FINAL_RUN and not graph.any_claimed(tx, run.id):
        graph.end_run(tx, run.id, run.halt)
        return Finished(run_status=run.halt)
    return Finished()
