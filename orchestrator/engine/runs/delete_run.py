"""Remove one run: for those who must, before the retention does."""

from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.access import Act, Actor
from orchestrator.core.happened import Operated
from orchestrator.core.states import FINAL_RUN
from orchestrator.errors import Conflict
from orchestrator.ledger import access, graph, notifications, retention
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify


def delete(ledger: Ledger, run_id: UUID, *, by: str, reason: str | None = None) -> None:
    """Remove a run that ended, with its inputs, outputs, history and idempotency key; what it has in the payload store
    is removed within hours. Who removed which run, and why, stays in the audit and among the events of its flow.

    Raises:
        RunNotFound: no such run.
        Conflict: it has not ended, or the run that called it was not told of its end yet.
    """
    ledger.retry(lambda tx: delete_in(tx, run_id, by=by, reason=reason))
    notify(Operated("delete"))


def delete_in(tx: Connection, run_id: UUID, *, by: str, reason: str | None) -> None:
    """Like `delete`, as part of the caller's transaction."""
    run = graph.lock(tx, run_id, against_claims=True)
    if run.status not in FINAL_RUN:
        raise Conflict(
            f"Run {run_id} is {run.status}, and only a run that has ended can be deleted. "
            f"Fix: wait for its end, or `orchestrator run cancel {run_id}`.",
            run_id=str(run_id),
        )
    was = {"flow": run.flow, "status": run.status}
    access.audit(tx, Actor(by), Act("run.delete", f"run/{run_id}", was=was, reason=reason))
    notifications.drop_of(tx, run_id)
    if not retention.drop_run(tx, run_id, run.flow, by, reason):
        raise Conflict(
            f"Run {run_id} has just ended, and the run that called it was not told yet. Fix: try again in a moment.",
            run_id=str(run_id),
        )
