"""One message: claim its step, run it, and go on to the next of its chain."""

from time import monotonic
from typing import Final

from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Dispatch
from orchestrator.engine.steps import claim_step, release
from orchestrator.errors import LeaseLost
from orchestrator.observe.logs import STALE, SUPPRESSED, about, about_dispatch, log
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.held_lease import HeldLease
from orchestrator.workers.run.outage import GaveUp, Outage, passing
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
        log.info("step.duplicate", extra=about_dispatch(dispatch, SUPPRESSED))
    _work(state, held)


def _work(state: WorkerState, held: HeldLease | None) -> None:
    left = CHAIN_MAX
    while held is not None:
        if state.stopping:
            give_back(state, held)
            return
        left -= 1
        held = Attempt(state, held, may_chain=left > 0).run()


def _claim(state: WorkerState, dispatch: Dispatch) -> HeldLease | None:
    """Take the step. After a lost connection: was it us? then go on, else ask again."""
    ledger, owner, lease_for = state.runtime().ledger, state.owner, state.settings.lease
    outage = Outage(2 * lease_for.total_seconds(), hurry=lambda: state.stopping)
    first = monotonic()
    while True:
        try:
            if outage.tried:
                found = claim_step.owned(ledger, dispatch.run_id, dispatch.step_key, owner)
                if found is not None:
                    return HeldLease(found, first)
            asked = monotonic()
            lease = claim_step.claim(ledger, dispatch.run_id, dispatch.step_key, dispatch.number, owner, lease_for)
            return HeldLease(lease, asked) if lease is not None else None
        except DBAPIError as exc:
            if not passing(exc):
                raise
            outage.wait(exc, "claim")


def give_back(state: WorkerState, held: HeldLease) -> None:
    """Return a claimed step that was not started; no attempt is charged."""
    runtime = state.runtime()
    try:
        runtime.publisher.publish(release.release(runtime.ledger, held.lease))
    except (DBAPIError, LeaseLost) as exc:  # the lease runs out by itself
        log.warning("release.failed", extra=about(held.lease, STALE, error=type(exc).__name__))
