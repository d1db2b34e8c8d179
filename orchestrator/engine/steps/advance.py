"""The general path: what follows when steps end. The caller holds the run row.

A step waits until every predecessor has ended, whatever became of them; then it runs, or is skipped when they ended
otherwise than it asks (`opening`). So a step that has ended has only ended predecessors, and the run is over when the
steps that nothing waits for are: its sinks, and those an operator retried after their failure had been handled.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.facts import Called, Finished, Lease, Success
from orchestrator.core.plan import Node
from orchestrator.core.states import FINAL_RUN, RunStatus, StepEvent, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import failures, items, opening, stops
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.retrying import Reopened
from orchestrator.engine.steps.wave import End, Wave
from orchestrator.engine.subflows import calls
from orchestrator.errors import LeaseLost
from orchestrator.ledger import claims, graph, subflows, traces
from orchestrator.ledger.graph import Ended

CALLS: Final = 32
"""Runs that one transaction starts: each costs five statements, and whoever cancels the run, or tells it of an end,
waits for the commit."""


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


@dataclass(frozen=True, slots=True)
class Completion:
    """A worker finished `lease` with `success`; it would take the next step itself."""

    lease: Lease
    success: Success

    def stays(self, target: Node) -> bool:
        """Whether the next step may stay with this worker: same queue and priority, and it has the handler."""
        chain = self.success.chain
        same = target.queue == self.lease.queue and target.priority == self.lease.priority
        return chain is not None and target.task in chain.handlers and same

    def offer(self, target: Node) -> Success:
        """What is to be recorded, with the worker's offer to take this step only if it may stay."""
        return self.success if self.stays(target) else replace(self.success, chain=None)

    def taken(self, row: Any, target: Node) -> Lease:
        """The lease on the next step, from the row of its claim."""
        return claims.following(row, self.lease, target, json.loads(self.success.output))


def after(
    held: HeldRun, ended: Mapping[str, StepStatus], error: JsonValue = None, by: Completion | None = None
) -> Finished:
    """Advance the run past the steps that just ended; end it when nothing is left.

    `error` explains the failure among `ended`, if there is one, for whoever reads the run. When exactly one step may go
    now and may stay with the worker that is done, it is claimed in this transaction instead of dispatched.
    """
    if held.run.halt is not None:
        return _halted(held)
    wave = Wave(held)
    for key, status in ended.items():
        wave.end(End(key, status, error))
    return _run_out(wave, by)


def begin(held: HeldRun) -> Finished:
    """Open the steps that wait for nothing; the start statement dispatched the plain ones. A run without steps ends."""
    if not held.plan.nodes:
        return graph.end_run(held.tx, held.id, RunStatus.SUCCEEDED)
    wave = Wave(held)
    for node in held.plan.roots():
        if not node.plain:
            opening.open_step(wave, node)
    return _run_out(wave)


def open_run(held: HeldRun, kept: Mapping[str, StepStatus]) -> Finished:
    """Open a run of which nothing was dispatched. `kept` have ended already, and so has all that is before them."""
    if not held.plan.nodes:
        return graph.end_run(held.tx, held.id, RunStatus.SUCCEEDED)
    wave = Wave(held)
    for key, status in kept.items():
        if not _lies_inside(held.plan.nodes[key], kept):
            wave.end(End(key, status))
    for node in held.plan.roots():
        if node.key not in kept:
            opening.open_step(wave, node)
    return _run_out(wave)


def _lies_inside(node: Node, kept: Collection[str]) -> bool:
    """Whether all that waits for it is kept, too: then nobody is to hear of its end."""
    return bool(node.edges) and all(edge.target in kept for edge in node.edges)


def again(reopened: Reopened) -> Finished:
    """Go on with a run that an operator runs again."""
    wave = Wave(reopened.held, reopened.how)
    wave.dispatches += reopened.dispatches
    wave.early.update(node.key for node in reopened.going)
    for node in reopened.loops:
        opening.reopen_loop(wave, node)
    opening.look_again(wave, reopened.items)
    for node in reopened.going:
        opening.open_step(wave, node)
    for node in reopened.full:
        wave.end(opening.close(wave, node, failed=0))
    return _run_out(wave)


def woken(held: HeldRun, step_keys: Iterable[str]) -> Finished:
    """The time of waiting steps without a handler has come."""
    wave = Wave(held)
    keys = list(step_keys)
    for key in keys:
        opening.wake_step(wave, held.plan.node(key), key)
    split = _split(held, keys)
    return replace(_run_out(wave), split=split)


def taken(held: HeldRun, step_key: str) -> Finished:
    """A waiting step took a signal."""
    split = _split(held, [step_key])
    return replace(after(held, {step_key: StepStatus.SUCCEEDED}), split=split)


def _split(held: HeldRun, step_keys: Sequence[str]) -> bool:
    """Before anything follows, so that this is in the new trace."""
    longest = held.ledger.trace_split
    return longest is not None and traces.split(held.tx, held.id, step_keys, longest)


def _run_out(wave: Wave, by: Completion | None = None) -> Finished:
    while wave.ended or wave.calls or any(wave.tallies):
        if wave.ended:
            generation, wave.ended = wave.ended, []
            _generation_ended(wave, generation)
        elif wave.calls:
            _call_next(wave)
        if not wave.ended:
            wave.write_skips()
            items.settle(wave)
    wave.write_skips()
    following = _hand_on(wave, by)
    skipped, called = tuple(wave.skipped), tuple(wave.called)
    return replace(_settle(wave), next=following, skipped=skipped, called=called, postponed=wave.postponed)


def _call_next(wave: Wave) -> None:
    """After so many the others wait, with their time come: keepers go on with them in transactions of their own. Not
    where an operator runs steps again: these go on with the runs that they called, which a later start does not."""
    if wave.opened < CALLS or wave.how is not None:
        _call(wave, wave.calls.pop(0))
        return
    left = subflows.postpone(wave.held.tx, wave.held.id, [node.key for node in wave.calls])
    wave.postponed |= bool(left)
    others, wave.calls = [node for node in wave.calls if node.key not in left], []
    for node in others:
        _call(wave, node)


def _call(wave: Wave, node: Node) -> None:
    """Start the run of a step that calls a flow, in the commit that opens the step; or go on with the one that it
    called before it was retried."""
    wave.opened += 1
    wave.write_skips()
    end: End | None = None
    match calls.start(wave, node):
        case HeldRun() as child:
            fp("call.accepted")
            end = _called(wave, node, child, open_run(child, {}), again=False)
        case Reopened() as adopted:
            fp("call.adopted")
            end = _called(wave, node, adopted.held, again(adopted), again=True)
        case ended:
            end = ended
    if end is not None:
        wave.end(end)


def _called(wave: Wave, node: Node, child: HeldRun, opened: Finished, *, again: bool) -> End | None:
    """How the step ended, if its run did at once."""
    wave.dispatches += opened.dispatches
    wave.called.append(Called(child.id, child.run.flow, child.run.trigger, opened, again))
    return calls.opened(wave.held, node, child.id, opened.run_status)


def _generation_ended(wave: Wave, ended: Sequence[End]) -> None:
    """One statement for all that waited for these, however many are skipped; then the next generation."""
    plain = [end for end in ended if wave.node(end.key).loop is None]
    skipped = [end.key for end in plain if end.status is StepStatus.SKIPPED]
    failed = {end.key: end.error for end in plain if end.status is StepStatus.FAILED}
    failures.count(wave, {**dict.fromkeys(failures.asked_for(wave, skipped)), **failed})
    rows = graph.predecessors_ended(wave.held.tx, wave.held.id, _counts(wave, plain))
    waiting = {row.step_key: opening.Waiting.of(wave, row) for row in rows}
    # A sink; or a step that was retried after its successors had run on its failure: nothing waits for it any more.
    for end in plain:
        if not any(edge.target in waiting for edge in wave.node(end.key).edges):
            tally = wave.tally(end.key)
            tally.sinks += 1
            tally.ran |= end.status is not StepStatus.SKIPPED
    opening.decide_all(wave, waiting.values())
    for end in ended:
        loop = wave.node(end.key).loop
        if loop is not None:
            _child_ended(wave, loop, end)


def _counts(wave: Wave, ended: Iterable[End]) -> dict[str, Ended]:
    """By waiting step: how many of its predecessors ended, and how many of them otherwise than asked."""
    counts: dict[str, Ended] = {}
    for end in ended:
        for edge in wave.node(end.key).edges:
            if edge.target in wave.early:
                continue
            before = counts.get(edge.target) or Ended(0, 0)
            counts[edge.target] = Ended(before.count + 1, before.unmet + (end.status not in edge.accepted))
    return counts


def _hand_on(wave: Wave, by: Completion | None) -> Lease | None:
    """Claim the only step that may go for the finishing worker, or dispatch all that may."""
    if by is not None and by.success.chain is not None and len(wave.freed) == 1 and not wave.dispatches:
        target = wave.node(wave.freed[0])
        if by.stays(target):
            row = graph.take(wave.held.tx, wave.held.id, wave.freed[0], by.lease.owner, by.success.chain.lease)
            return by.taken(row, target)
    wave.dispatches += graph.ready(wave.held.tx, wave.held.id, wave.freed, StepEvent.UNBLOCK)
    return None


def _child_ended(wave: Wave, loop_key: str, end: End) -> None:
    node = wave.node(loop_key)
    failed = end.status in (StepStatus.FAILED, StepStatus.CANCELLED)
    count = graph.child_ended(wave.held.tx, wave.held.id, loop_key, failed=int(failed))
    if count is None:
        return
    if failed and node.definition.stop_on_failure and (count.failed == 1 or count.next is not None):
        count = replace(count, open=stops.stop(wave, node, end.key), next=None)
    if count.open == 0:
        wave.end(opening.close(wave, node, count.failed, count.reason))
    else:
        opening.let_in(wave, node, _next_child(wave.held, node, count.next))


def make_room(held: HeldRun, node: Node) -> Finished:
    """A step waits for its back-off or its next poll: what it is a part of, a child of a loop, gives its place to the
    next one, if it does nothing else meanwhile. A `concurrency` the user set counts waiting children."""
    item = node.key.rpartition(".")[0] if node.loop is None else None
    key = node.loop if item is None else item.rpartition(".")[0]
    loop = held.plan.node(key) if key else None
    if loop is None or loop.definition.concurrency is not None:
        return Finished()
    if item is not None and graph.is_moving(held.tx, held.id, item):
        return Finished()
    wave = Wave(held)
    opening.let_in(wave, loop, _next_child(held, loop, graph.let_in_one_more(held.tx, held.id, loop.key)))
    return _run_out(wave)


def _next_child(held: HeldRun, loop: Node, index: int | None) -> list[str]:
    """The next child that the loop's window held back."""
    if index is None:
        return []
    if index < 0:
        return graph.waiting_children(held.tx, held.id, loop, 1, start=-1 - index)
    return [f"{loop.key}.{index - 1}{loop.child_suffix}"]


def _settle(wave: Wave) -> Finished:
    """Count off the sinks that ended, and end the run at zero. A step can only end after all of its predecessors, so
    once every sink has ended, every step has; a step that nothing waits for any more (it was retried after its
    successors had run) was counted as a sink when it was reopened."""
    dispatches = tuple(wave.dispatches)
    tally = wave.tallies.get("")
    if tally is None:
        return Finished(dispatches=dispatches)
    tx, run_id = wave.held.tx, wave.held.id
    sinks_open, failures = graph.count_run(
        tx, run_id, sinks=tally.sinks, failures=tally.failures, error=tally.error if tally.failures else None
    )
    if sinks_open:
        return Finished(dispatches=dispatches)
    status = RunStatus.FAILED if failures else RunStatus.SUCCEEDED
    return replace(graph.end_run(tx, run_id, status), dispatches=dispatches)


def _halted(held: HeldRun) -> Finished:
    """A cancelled or timed-out run starts nothing more; it ends with its last handler."""
    run = held.run
    assert run.halt is not None
    if run.status not in FINAL_RUN and not graph.any_claimed(held.tx, run.id):
        return graph.end_run(held.tx, run.id, run.halt)
    return Finished()
