"""Give claims back: unstarted ones of a worker that stops, and those of a process that died."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from orchestrator.core.facts import Dispatch, Lease, StepError
from orchestrator.engine import fail_step
from orchestrator.engine.faults import fp
from orchestrator.ledger import controls, graph, sweeps
from orchestrator.ledger.tx import Ledger

PAGE = 500


def release(ledger: Ledger, lease: Lease) -> tuple[Dispatch, ...]:
    """Give a claim back unstarted; no attempt is charged. Empty when it was not ours any more."""
    return ledger.retry(lambda tx: controls.release(tx, lease))


def end_owned(ledger: Ledger, owner_prefix: str, *, crash_limit: int) -> tuple[Dispatch, ...]:
    """A process that held claims is dead: its steps are READY again, each at the cost of one crash.

    `owner_prefix` is a worker process (then its pool children are meant too) or one pool child.
    """
    rows = ledger.retry(lambda tx: sweeps.held_by(tx, owner_prefix, PAGE))
    return recover(ledger, rows, crash_limit)


def recover(ledger: Ledger, rows: Sequence[Row[Any]], crash_limit: int) -> tuple[Dispatch, ...]:
    """Re-queue lost attempts; end those of halted runs, and steps that were lost more than `crash_limit` times.

    The rows were read before; each write quotes the version it was read at.
    """
    fp("sweep.selected")
    special = [row for row in rows if row.halted or row.crashes >= crash_limit]
    plain = [row for row in rows if not (row.halted or row.crashes >= crash_limit)]
    dispatches = list(ledger.retry(lambda tx: sweeps.requeue_lost(tx, plain))) if plain else []
    fp("sweep.committed")
    for row in special:
        dispatches += _end(ledger, row)
    return tuple(dispatches)


def _end(ledger: Ledger, row: Row[Any]) -> tuple[Dispatch, ...]:
    def work(tx: Connection) -> tuple[Dispatch, ...]:
        run = graph.lock(tx, row.run_id)
        if graph.end_claim(tx, row.run_id, row.step_key, row.version) is None:
            return ()
        plan = ledger.plan(run.manifest_hash)
        error = StepError(
            "WorkerLost", f"its worker was lost {row.crashes + 1} times while it ran; the last was {row.owner}", None
        )
        graph.end_attempt(tx, run.id, row.step_key, row.attempt, "crashed", error)
        if run.halt is not None:
            return fail_step.cancelled(tx, plan, run, row.step_key, row.attempt).dispatches
        return fail_step.failed(tx, plan, run, row.step_key, row.attempt, error, crashed=1).dispatches

    return ledger.retry(work)
