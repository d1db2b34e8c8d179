"""A run ended here that a step of another run waits for: that run goes on at once. A keeper would see to it too."""

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.engine.subflows import report
from orchestrator.observe.logs import STALE, about, log
from orchestrator.workers.run.attempt import Attempt


def tell(attempt: Attempt) -> None:
    """Tell the run that called the one of this attempt, and publish what follows there."""
    try:
        dispatches = report.tell(attempt.ledger, attempt.lease.run_id)
    except SQLAlchemyError as exc:
        log.warning("report.failed", extra=about(attempt.lease, STALE, error=type(exc).__name__))
        return
    attempt.runtime.publisher.publish(dispatches)
