"""Stop a run: on request, or at its deadline."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.errors import Conflict
from orchestrator.ledger import controls, graph
from orchestrator.ledger.tx import Ledger


def cancel(ledger: Ledger, run_id: UUID, *, by: str, reason: str, grace: timedelta) -> RunStatus:
    """Ask a run to stop; its status afterwards.

    Nothing of the run is claimed after this commit. Running handlers learn at their next renewal, and are ended after
    `grace`; the run is CANCELLED once none is left. Asking again changes nothing, nor does asking a run that its
    deadline is stopping already: it ends TIMED_OUT.

    Raises:
        RunNotFound: no such run.
        Conflict: the run ended otherwise.
    """

    return ledger.retry(lambda tx: cancel_in(tx, run_id, by=by, reason=reason, grace=grace))


def cancel_in(tx: Connection, run_id: UUID, *, by: str, reason: str, grace: timedelta) -> RunStatus:
    """Like `cancel`, as part of the caller's transaction."""
    run = graph.lock(tx, run_id, against_claims=True)
    if run.status is RunStatus.CANCELLED or (run.halt is not None and run.status not in FINAL_RUN):
        return run.status
    if run.status in FINAL_RUN:
        raise Conflict(
            f"Run {run_id} has ended ({run.status}); there is nothing to cancel. Fix: `orchestrator run "
            f"show {run_id}`.",
            run_id=str(run_id),
            status=run.status.value,
        )
    return stop(tx, run_id, RunStatus.CANCELLED, run.status, by=by, reason=reason, grace=grace)


def stop(
    tx: Connection, run_id: UUID, halt: RunStatus, status: RunStatus, *, by: str | None, reason: str, grace: timedelta
) -> RunStatus:
    """Halt the locked run; it ends now if no handler is running."""
    graph.take_time(tx)
    controls.halt(tx, run_id, halt, by=by, reason=reason, grace=grace)
    if graph.any_claimed(tx, run_id):
        return status
    graph.end_run(tx, run_id, halt)
    return halt
