"""A transactional step: its handler's SQL and its completion commit together, or not at all."""

from time import monotonic

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Failure, StepError, Success
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import finish_step, release
from orchestrator.errors import NotTransactional
from orchestrator.ledger.passing import IN_THE_WAY
from orchestrator.ledger.sweeps import session_name
from orchestrator.ledger.tx import is_broken, sqlstate
from orchestrator.observe.logs import STALE, about, log
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.blame import TransactionLost
from orchestrator.workers.run.errors_text import storable
from orchestrator.workers.run.outage import reason, retry_through_outage


def begin(attempt: Attempt) -> None:
    """The handler may think in it for as long as it likes: it holds no lock of ours yet."""
    lease = attempt.lease
    name = session_name(lease.run_id, lease.step_key, lease.fence)
    attempt.tx = retry_through_outage(
        attempt.outage(2), "open a transaction", lambda: attempt.opened.enter_context(attempt.ledger.patient_tx(name))
    )


def check_usable(attempt: Attempt) -> None:
    """
    Raises:
        NotTransactional: the completion cannot be written where the handler wrote.
    """
    tx = _of(attempt)
    if is_broken(tx):
        return
    driver = None if tx.closed else tx.connection.driver_connection
    failed = isinstance(driver, psycopg.Connection) and driver.info.transaction_status is TransactionStatus.INERROR
    if failed or not tx.in_transaction():
        raise NotTransactional(
            f"The handler returned with `ctx.tx` {'in error' if failed else 'ended'}, so nothing can be committed. "
            "Fix: let errors of `ctx.tx` pass, or try what may fail inside `ctx.tx.begin_nested()`; leave commit and "
            "rollback to the worker."
        )


def record(attempt: Attempt) -> None:
    """In the handler's transaction. What was only in the way is tried again from the savepoint in which it is done; the
    handler's own statements stay as they are."""
    tx, outage = _of(attempt), attempt.outage(2)
    attempt.ledger.hurry(tx)
    done = Success(attempt.output, attempt.shown_inputs, attempt.chain)
    while True:
        try:
            attempt.asked = monotonic()
            attempt.finished = finish_step.finish(attempt.ledger, attempt.lease, done, tx)
            return
        except DBAPIError as exc:
            if is_broken(tx) or sqlstate(exc) not in IN_THE_WAY:
                raise
            outage.wait(exc, "finish")


def commit(attempt: Attempt) -> None:
    """What was recorded becomes true."""
    recorded, attempt.finished = attempt.finished, None
    attempt.opened.close()
    fp("finish.committed")
    attempt.finished = recorded


def undone(attempt: Attempt, lost: TransactionLost) -> None:
    """Whether it was committed is not known. If not, nothing of it happened: run it again."""
    ledger, lease, outage = attempt.ledger, attempt.lease, attempt.outage(2)
    outage.wait(lost.error, "commit")
    attempt.asked = monotonic()
    attempt.finished = retry_through_outage(outage, "commit", lambda: finish_step.settled(ledger, lease))
    if attempt.finished is not None:
        return
    error = StepError("TransactionLost", storable(f"its transaction was lost before its commit: {reason(lost.error)}"))
    limit = attempt.worker.settings.crash_limit if lost.charged else None
    attempt.finished = retry_through_outage(
        outage, "run again", lambda: release.undone(ledger, lease, error, crash_limit=limit)
    )
    attempt.failure = Failure(error, status="crashed")
    log.warning("step.undone", extra=about(lease, STALE, error=error.message[:300], charged=lost.charged))


def _of(attempt: Attempt) -> Connection:
    assert attempt.tx is not None
    return attempt.tx
