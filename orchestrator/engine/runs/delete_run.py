"""Remove one run: for those who must, before the retention does."""

from uuid import UUID

from orchestrator.errors import Conflict
from orchestrator.ledger import reads, retention
from orchestrator.ledger.tx import Ledger


def delete(ledger: Ledger, run_id: UUID, *, by: str) -> None:
    """Remove a run that ended, with its inputs, outputs, history and idempotency key. Who removed which run stays among
    the events of its flow.

    Raises:
        RunNotFound: no such run.
        Conflict: it has not ended.
    """
    row = reads.runs.get(ledger, run_id)
    if not ledger.retry(lambda tx: retention.drop_run(tx, run_id, row.flow, by)):
        status = reads.runs.status(ledger, run_id)
        raise Conflict(
            f"Run {run_id} is {status}, and only a run that has ended can be deleted. "
            f"Fix: wait for its end, or `orchestrator run cancel {run_id}`.",
            run_id=str(run_id),
        )
