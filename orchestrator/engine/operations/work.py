"""A page of what operations have to do. Each run is a transaction of its own, by the functions that single commands
use; what became of it is written down in the same commit: a keeper that dies neither skips a run nor does it twice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Dispatch, Swept
from orchestrator.core.happened import Ended, Operated
from orchestrator.core.operations import Action, OperationEvent
from orchestrator.engine.batches import run_batches
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import cancel_run, delete_run
from orchestrator.engine.steps import retry_step
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.engine.steps.retrying import How
from orchestrator.engine.subflows import stopping
from orchestrator.errors import Conflict, ManifestUnreadable, NotFound
from orchestrator.ledger import graph, operations
from orchestrator.ledger.operations import Job
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.observe.logs import log
from orchestrator.observe.observer import notify

OPERATIONS: Final = 20
"""So many are worked off side by side; a later one begins when one of them ends."""
PAGE: Final = 200
"""Runs of a page, shared by the operations."""
TRIES: Final = 5
"""Errors with one run, half a minute from the first to the last, before it counts as failed."""


class Turn(NamedTuple):
    """A run whose turn it is."""

    job: Job
    run_id: UUID


@dataclass(slots=True)
class Acted:
    """What is to be told after the commit."""

    dispatches: tuple[Dispatch, ...] = ()
    tell: list[Callable[[], None]] = field(default_factory=list)


def page(ledger: Ledger, grace: timedelta, runs: int = PAGE) -> Swept:
    """Do some runs of each operation that goes on; those that have nothing left are completed. A run that fails is
    tried again later, and holds up no other one.

    Raises:
        DBAPIError: the database was lost before anything was done.
    """
    with ledger.auto() as tx:
        found = operations.due(tx, OPERATIONS, runs)
    if not found:
        return Swept()
    jobs = {job.id: job for job, _ in found}
    turns = _shared([Turn(job, run_id) for job, run_id in found if run_id is not None], max(runs // len(jobs), 1))
    fp("operation.selected")
    unreadable = False

    def failed(turn: Turn, exc: Exception) -> None:
        nonlocal unreadable
        unreadable = unreadable or isinstance(exc, ManifestUnreadable)
        _failed(ledger, turn, exc)

    batch = run_batches([[turn] for turn in turns], lambda piece: _do(ledger, piece[0], grace), failed)
    if not batch.left:
        for operation_id in jobs:
            ledger.retry(lambda tx, id=operation_id: _complete(tx, id))  # type: ignore[misc]
    dispatches = tuple(dispatch for acted in batch.done for dispatch in acted.dispatches)
    return Swept(len(batch.done), dispatches, more=batch.progress, unreadable=unreadable)


def _shared(turns: list[Turn], each: int) -> list[Turn]:
    """At most so many of each operation."""
    taken: dict[UUID, int] = {}
    chosen = []
    for turn in turns:
        taken[turn.job.id] = taken.get(turn.job.id, 0) + 1
        if taken[turn.job.id] <= each:
            chosen.append(turn)
    return chosen


def _do(ledger: Ledger, turn: Turn, grace: timedelta) -> Acted | None:
    """Do it to one run; None when that was somebody else's, or the operation does not go on."""

    def work(tx: Connection) -> Acted | None:
        if not operations.take(tx, turn.job.id, turn.run_id):
            return None
        acted = ACTS[turn.job.action](ledger, tx, turn, grace)
        fp("operation.acted")
        return acted

    try:
        acted = ledger.retry(work)
    except (Conflict, NotFound) as exc:
        why = exc.message
        ledger.once(lambda tx: operations.leave_out(tx, turn.job.id, turn.run_id, why))
        return Acted()
    fp("operation.committed")
    if acted is not None:
        for tell in acted.tell:
            tell()
    return acted


def _complete(tx: Connection, operation_id: UUID) -> None:
    if operations.any_pending(tx, operation_id):
        return
    state = operations.hold(tx, operation_id)
    if state is not None and operations.move(tx, operation_id, state, OperationEvent.COMPLETE, None):
        log.info("operation.completed", extra={"operation": operation_id})


def _failed(ledger: Ledger, turn: Turn, exc: Exception) -> None:
    """Nothing was written for this run."""
    if is_disconnect(exc):
        return  # that says nothing of the run
    said = f"{type(exc).__name__}: {exc.orig if isinstance(exc, DBAPIError) else exc}".split("\n")[0][:300]
    log.error(
        "operation.run_failed",
        extra={"operation": turn.job.id, "run_id": turn.run_id, "error": said},
        exc_info=None if isinstance(exc, ManifestUnreadable) else exc,
    )
    ledger.once(lambda tx: operations.postpone(tx, turn.job.id, turn.run_id, said, TRIES))


# ---- what is done to a run, in the transaction ----


def _cancel(ledger: Ledger, tx: Connection, turn: Turn, grace: timedelta) -> Acted:
    run = graph.lock(tx, turn.run_id, against_claims=True)
    if run.halt is not None:
        raise Conflict(f"Run {run.id} was stopped already: it is {run.status}.", run_id=str(run.id))
    ended: list[Ended] = []
    cancel_run.cancel_in(tx, run.id, by=turn.job.by, reason=turn.job.reason, grace=grace, ended=ended)

    def tell() -> None:
        notify(Operated(Action.CANCEL.value))
        for fact in ended:
            notify(fact)
        stopping.stop_below(ledger, run.id, grace)

    return Acted(tell=[tell])


def _retry(ledger: Ledger, tx: Connection, turn: Turn, grace: timedelta) -> Acted:
    options = turn.job.options
    how = How(turn.job.by, force=options.get("force", False), fresh=options.get("fresh", False))
    run, finished = retry_step.retry_in(ledger, tx, turn.run_id, None, how)
    told = (lambda: notify(Operated(Action.RETRY.value)), lambda: notify_followed(run, finished))
    return Acted(finished.dispatches, list(told))


def _delete(ledger: Ledger, tx: Connection, turn: Turn, grace: timedelta) -> Acted:
    delete_run.delete_in(tx, turn.run_id, by=turn.job.by, reason=turn.job.reason)
    return Acted(tell=[lambda: notify(Operated(Action.DELETE.value))])


ACTS: Final[Mapping[Action, Callable[[Ledger, Connection, Turn, timedelta], Acted]]] = MappingProxyType(
    {Action.CANCEL: _cancel, Action.RETRY: _retry, Action.DELETE: _delete}
)
