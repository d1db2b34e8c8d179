"""What the expressions of a run see, read from the ledger."""

from dataclasses import replace
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.expressions import Scope
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.states import StepStatus
from orchestrator.ledger import claims, graph, signals
from orchestrator.ledger.rows import one


def whole(tx: Connection, run_id: UUID, reads: Reads) -> Scope:
    """Everything that is asked for."""
    outputs = claims.outputs(tx, run_id, reads.outputs) if reads.outputs else {}
    trigger = claims.trigger_body(tx, run_id) if reads.trigger else None
    return further(tx, run_id, reads, Scope(trigger=trigger, outputs=outputs))


def further(tx: Connection, run_id: UUID, reads: Reads, scope: Scope) -> Scope:
    """The scope with what is neither an output nor the input."""
    if not reads.more:
        return scope
    statuses = graph.statuses(tx, run_id, reads.ends) if reads.ends else {}
    failed = [key for key, status in statuses.items() if status is StepStatus.FAILED]
    return replace(
        scope,
        statuses={key: status.value for key, status in statuses.items()},
        errors={key: graph.failure(tx, run_id, key) for key in failed},
        headers=_headers(tx, run_id) if reads.headers else {},
        senders={key: signals.sender(tx, run_id, key) for key in reads.senders},
    )


def _headers(tx: Connection, run_id: UUID) -> dict[str, str]:
    row = one(tx, "trigger_headers", run_id=run_id)
    return {} if row is None or row.trigger_headers is None else dict(row.trigger_headers)
