"""What the expressions of a run see, read from the ledger."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.expressions import Scope
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.fingerprint import told_apart
from orchestrator.core.states import StepStatus
from orchestrator.ledger import claims, graph, outputs, signals
from orchestrator.ledger.rows import one
from orchestrator.ledger.tx import Ledger

T = TypeVar("T")


def whole(ledger: Ledger, tx: Connection, run_id: UUID, reads: Reads) -> Scope:
    """Everything that is asked for."""
    found = outputs.of(ledger, tx, run_id, reads.outputs) if reads.outputs else {}
    trigger = claims.trigger_body(tx, run_id) if reads.trigger else None
    item, index = graph.items(tx, run_id, [reads.item])[reads.item] if reads.item else (None, None)
    scope = Scope(trigger=trigger, outputs=by_name(found), item=item, index=index)
    return further(tx, run_id, reads, scope)


def by_name(found: Mapping[str, T]) -> dict[str, T]:
    """What stands under the keys of rows, by the names that the manifest has for them."""
    return {key.rpartition(".")[2]: one for key, one in found.items()}


def further(tx: Connection, run_id: UUID, reads: Reads, scope: Scope) -> Scope:
    """The scope with what is neither an output nor the input."""
    if not reads.more:
        return scope
    statuses = graph.statuses(tx, run_id, reads.ends) if reads.ends else {}
    failed = [key for key, status in statuses.items() if status is StepStatus.FAILED]
    return replace(
        scope,
        statuses=by_name({key: status.value for key, status in statuses.items()}),
        errors=by_name({key: told_apart(graph.failure(tx, run_id, key))[0] for key in failed}),
        around=_around(tx, run_id, reads) if reads.items else {},
        headers=_headers(tx, run_id) if reads.headers else {},
        senders=by_name({key: signals.sender(tx, run_id, key) for key in reads.senders}),
    )


def _around(tx: Connection, run_id: UUID, reads: Reads) -> dict[str, tuple[JsonValue, int | None]]:
    found = graph.items(tx, run_id, [key for _, key in reads.items])
    return {loop: found[key] for loop, key in reads.items}


def _headers(tx: Connection, run_id: UUID) -> dict[str, str]:
    row = one(tx, "trigger_headers", run_id=run_id)
    return {} if row is None or row.trigger_headers is None else dict(row.trigger_headers)
