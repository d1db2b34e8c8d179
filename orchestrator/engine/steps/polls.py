"""Record that a step was asked and is not ready: ask it again later, or fail it when its time is over."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from orchestrator.core.facts import Finished, Lease, NotReady, StepError
from orchestrator.core.states import StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance, fail_step, stops
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.kept import kept_inputs
from orchestrator.ledger import graph, polls
from orchestrator.ledger.graph import AttemptEnd
from orchestrator.ledger.polls import KEPT, Polling
from orchestrator.ledger.tx import Ledger

_SHORTEST = timedelta(seconds=1)


def not_yet(ledger: Ledger, lease: Lease, seen: NotReady) -> Finished:
    """Record a poll. It is no failure: the step's retries are for errors in a row, and start anew.

    Raises:
        LeaseLost: another worker owns the step, or it was ended; nothing was written.
    """
    fp("poll.before")

    def work(tx: Connection) -> Finished:
        held = HeldRun.lock(ledger, tx, lease.run_id)
        advance.fence(tx, lease)
        return _halted(held, lease, seen) if held.run.halt is not None else _polled(held, lease, seen)

    finished = ledger.retry(work)
    fp("poll.committed")
    return finished


def state(ledger: Ledger, lease: Lease) -> Polling:
    """How far the polling of a claimed step is."""
    with ledger.tx() as tx:  # a handler may ask from any thread: not that one's own connection
        return polls.state(tx, lease.run_id, lease.step_key)


def _halted(held: HeldRun, lease: Lease, seen: NotReady) -> Finished:
    end = AttemptEnd("cancelled", StepError("NotYet", seen.why), kept_inputs(seen.inputs))
    graph.end_attempt(held.tx, held.id, lease.step_key, lease.attempt, end)
    return fail_step.cancelled(held, lease.step_key, lease.attempt)


def _polled(held: HeldRun, lease: Lease, seen: NotReady) -> Finished:
    tx, key, attempt = held.tx, lease.step_key, lease.attempt
    node = held.plan.node(key)
    poll = node.definition.poll
    assert poll is not None
    every = poll.every if seen.after is None else max(seen.after, _SHORTEST)
    now = polls.again(tx, held.id, key, every=every, timeout=poll.timeout)
    if now is None:
        raise advance.lost(lease)
    over = now.due_at is None
    error = StepError("PollTimeout", poll.timed_out(now.polls, seen.why)) if over else StepError("NotYet", seen.why)
    end = AttemptEnd("failed" if over else "polled", error, kept_inputs(seen.inputs))
    graph.end_attempt(tx, held.id, key, attempt, end)
    if over or now.polls == 1:
        graph.event(tx, held.id, "step.polled", key, attempt, {"polls": now.polls, "why": seen.why[:500]})
    if over:
        return replace(fail_step.failed(held, key, attempt, error), attempt="failed")
    if now.polls > KEPT:
        polls.forget(tx, held.id, key)
    if stops.leave(held, key):
        return advance.after(held, {key: StepStatus.SKIPPED})
    return advance.make_room(held, node) if now.polls == 1 else Finished()  # it has no place in the window from then on
