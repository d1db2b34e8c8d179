"""Attempts as the lines about them need them."""

from datetime import UTC, datetime
from uuid import UUID

from orchestrator.core.facts import Failure, Lease
from orchestrator.workers.run.errors_text import step_error

RUN = UUID(int=7)


def leased(key: str = "a") -> Lease:
    now = datetime.now(UTC)
    return Lease(RUN, key, "demo", "work", "demo.work", 1, 1, "w", "x", "default", 5, now, None, transactional=False)


def failure(exc: BaseException) -> Failure:
    """As a worker makes it of what a handler raised."""
    try:
        raise exc
    except BaseException as raised:
        return Failure(step_error(raised), retryable=True)
