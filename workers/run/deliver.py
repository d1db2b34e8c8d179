"""One message: claim its step, run it, and go on to the next of its chain."""

from time import monotonic
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.core.facts import Claimant, Dispatch, UnknownVersion, pair
from orchestrator.core.happened import Refused
from orchestrator.engine.steps import claim_step, release
from orchestrator.errors import LeaseLost
from orchestrator.ledger.passing import passing
from orchestrator.observe.logs import STALE, SUPPRESSED, about, about_dispatch, log
from orchestrator.observe.observer import notify
from orchestrator.workers.run import pipeline
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.hand_over import Unfit
from orchestrator.workers.run.held_lease import HeldLease
from orchestrator.workers.run.outage import GaveUp, Outage
from orchestrator.workers.state import WorkerState

CHAIN_MAX: Final = 32
"""Steps that one message may lead to. Then the next is dispatched, so that other runs in the queue get their turn."""


def deliver(state: WorkerState, dispatch: Dispatch) -> None:
    """Act on one message: run its step and every step chained to it. A duplicate claims nothing and returns."""
    if state.stopping:
        state.runtime().publisher.publish([dispatch])
        return
    try:
        held = _claim(state, dispatch)
    except GaveUp:
        log.error("claim.gave_up", extra=about_dispatch(dispatch, SUPPRESSED, reason="database away"))
        return
    if held is None:
        flow = dispatch.task.rpartition(".")[0]
        whose = (flow, dispatch.run_id, dispatch.step_key, dispatch.number, dispatch.queue)
        notify(Refused("message", "duplicate", *whose))
    elif isinstance(held, UnknownVersion):
        why = state.versions.refused.get(pair(dispatch.task, held.manifest_hash), "the version has no such step")
        state.runtime().hand_over.give(Unfit(dispatch, why, held.manifest_hash))
    else:
        _work(state, held)


def _work(state: WorkerState, first: HeldLease) -> None:
    held: HeldLease | None = first
    left = CHAIN_MAX
    while held is not None:
        if state.stopping:
            state.runtime().publisher.publish(give_back(state, held))
            return
        left -= 1
        try:
            attempt = Attempt(state, held, may_chain=left > 0)
        except Exception as exc:
            # Nothing of it was begun, so it costs no attempt. It is not sent at once: the keeper does, in a while, and
            # no message races between a claim and what went wrong here.
            reason = f"{type(exc).__name__}: {exc}"[:300]
            log.exception("step.not_started", extra=about(held.lease, STALE, reason=reason))
            give_back(state, held)
            return
        try:
            following = pipeline.run(attempt)
        except GaveUp as exc:
            log.warning("step.not_started", extra=about(held.lease, STALE, doing=str(exc), reason="database away"))
            give_back(state, held)
            return
        held = following


def _claim(state: WorkerState, dispatch: Dispatch) -> HeldLease | UnknownVersion | None:
    """Take the step, if it is of a version that our code can run; a version met for the first time is read first.

    After a lost connection: was it us? then go on, else ask again.
    """
    versions = state.versions
    ledger, owner, lease_for = state.runtime().ledger, state.owner, state.settings.lease
    outage = Outage(2 * lease_for.total_seconds(), hurry=lambda: state.stopping)
    first = monotonic()
    while True:
        try:
            if outage.tried:
                ours = claim_step.owned(ledger, dispatch.run_id, dispatch.step_key, owner)
                if ours is not None:
                    return HeldLease(ours, first)
            asked = monotonic()
            by = Claimant(owner, lease_for, versions.accepted(dispatch.task))
            found = claim_step.claim(ledger, dispatch.run_id, dispatch.step_key, dispatch.number, by)
            if not isinstance(found, UnknownVersion):
                return HeldLease(found, asked) if found is not None else None
            if not versions.accepts(ledger, dispatch.task, found.manifest_hash):
                return found
        except SQLAlchemyError as exc:
            if not passing(exc):
                raise
            outage.wait(exc, "claim")


def give_back(state: WorkerState, held: HeldLease) -> tuple[Dispatch, ...]:
    """Return a claimed step that was not started; no attempt is charged. Publish its dispatch, or leave it to the
    ledger."""
    try:
        return release.release(state.runtime().ledger, held.lease)
    except (SQLAlchemyError, LeaseLost) as exc:  # the lease runs out by itself
        log.warning("release.failed", extra=about(held.lease, STALE, error=type(exc).__name__))
        return ()
