"""Stop a run: on request, or at its deadline."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.happened import Ended, RunOf
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.engine.steps.notifying import end_of
from orchestrator.errors import Conflict
from orchestrator.ledger import controls, graph
from orchestrator.ledger.controls import Halt
from orchestrator.ledger.graph import LockedRun
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify


def cancel(ledger: Ledger, run_id: UUID, *, by: str | None, reason: str, grace: timedelta) -> RunStatus:
    """Ask a run to stop; its status afterwards.

    Nothing of the run is claimed after this commit. Running handlers learn at their next renewal, and are ended after
    `grace`; the run is CANCELLED once none is left. Asking again changes nothing, nor does asking a run that its
    deadline is stopping already: it ends TIMED_OUT.

    Raises:
        RunNotFound: no such run.
        Conflict: the run ended otherwise.
    """
    ended: list[Ended] = []

    def work(tx: Connection) -> RunStatus:
        ended.clear()
        return cancel_in(tx, run_id, by=by, reason=reason, grace=grace, ended=ended)

    status = ledger.retry(work)
    for fact in ended:
        notify(fact)
    return status


def cancel_in(
    tx: Connection, run_id: UUID, *, by: str | None, reason: str, grace: timedelta, ended: list[Ended] | None = None
) -> RunStatus:
    """Like `cancel`, as part of the caller's transaction; the caller reports what has `ended` once that is
    committed."""
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
    fact = stop(tx, run, Halt(RunStatus.CANCELLED, by, reason, grace))
    if fact is None:
        return run.status
    if ended is not None:
        ended.append(fact)
    return fact.status


def stop(tx: Connection, run: LockedRun, halt: Halt) -> Ended | None:
    """Halt the run; it ends now if no handler is running: to be reported after the commit."""
    graph.take_time(tx)
    controls.halt(tx, run.id, halt)
    if graph.any_claimed(tx, run.id):
        return None
    return end_of(RunOf(run.id, run.flow, run.trigger), graph.end_run(tx, run.id, halt.status))
