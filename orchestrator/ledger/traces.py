"""What spans are made of, where facts do not say it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.trace import Trace
from orchestrator.core.traced import Place, RunPast, StepPast, TracedAttempt, TracedRun, TracedStep
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.tx import Ledger

MOST: Final = 1_000
"""Steps without a handler that one run has spans of."""


def split(tx: Connection, run_id: UUID, step_keys: Sequence[str], longest: timedelta) -> bool:
    """Begin another trace of the run, if one of these steps waited longer than that; whether it does."""
    return one(tx, "split_trace", run_id=run_id, step_keys=list(step_keys), longest=longest) is not None


class LedgerPast:
    """The `Past` of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def step(self, run_id: UUID, step_key: str, attempt: int | None) -> StepPast | None:
        with self._ledger.auto() as tx:
            rows = run(tx, "traced_step", run_id=run_id, step_key=step_key, attempt=attempt).all()
        if not rows:
            return None
        attempts = {row.attempt: _attempt(row) for row in rows if row.attempt is not None}
        last = rows[0].attempts if attempt is None else attempt
        return StepPast(_run(rows[0]), _step(rows[0]), attempts.get(last), attempts.get(last - 1))

    def run(self, run_id: UUID) -> RunPast | None:
        with self._ledger.auto() as tx:
            rows = run(tx, "traced_end", run_id=run_id, most=MOST).all()
        return RunPast(_run(rows[0]), [_step(row) for row in rows if row.step_key is not None]) if rows else None

    def place(self, manifest_hash: str, step_key: str) -> Place:
        node = self._ledger.plan(manifest_hash).node(step_key)
        before, inside = tuple(node.definition.run_after), node.loop or step_key.rpartition(".")[0]
        return Place(inside or None, before if len(before) > 1 else (), node.definition.when)

    def is_plain(self, manifest_hash: str) -> bool:
        return all(node.plain for node in self._ledger.plan(manifest_hash).nodes.values())


def _run(row: Any) -> TracedRun:
    scheduled: datetime | None = row.scheduled_for
    return TracedRun(
        row.id,
        row.flow,
        row.run_status,
        row.manifest_hash,
        row.trigger_type,
        row.trace_context,
        row.created_at,
        row.run_ended_at,
        _trace(row.source_run_id, row.source_trace),
        _trace(row.parent_run_id, row.parent_trace),
        row.parent_step_key,
        row.trigger_key if scheduled is not None else None,
        scheduled,
    )


def _trace(run_id: UUID | None, kept: dict[str, str] | None) -> Trace | None:
    return None if run_id is None else Trace.of(run_id, kept)


def _step(row: Any) -> TracedStep:
    key, status, kind = row.step_key, row.status, row.kind
    return TracedStep(key, status, kind, row.type, row.queue, row.attempts, row.began_at, row.ended_at, row.reason)


def _attempt(row: Any) -> TracedAttempt:
    status, ended = row.attempt_status, row.attempt_ended_at
    return TracedAttempt(row.attempt, row.version, status, row.started_at, ended, row.error_type)
