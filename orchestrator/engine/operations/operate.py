"""What people do with operations: foresee one, make it, pause, resume and cancel it.

The runs are listed when the operation is made. So what was confirmed is what is done: a run that fails a moment later
is not retried by it, nor one twice that fails again; its progress has an end; and each run has a row, which is changed
in the commit that does something to the run. Whether the run still allows it is seen when its turn comes.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.access import Act, Actor
from orchestrator.core.operations import (
    MOST_IDS,
    MOST_RUNS,
    Action,
    Foreseen,
    OperationEvent,
    OperationState,
    Outcome,
    affected_of,
    token_of,
)
from orchestrator.core.runfilter import ALL
from orchestrator.errors import Conflict, IdempotencyConflict, OperationNotFound, UsageError
from orchestrator.ledger import access, operations
from orchestrator.ledger.endings import digits_of
from orchestrator.ledger.operations import Job, OperationRow, OutcomeRow, Which
from orchestrator.ledger.tx import Ledger


def foresee(ledger: Ledger, action: Action, which: Which) -> Foreseen:
    """What an operation would do now; nothing is written.

    Raises:
        UsageError: every run is meant, or more than 100,000.
        FlowNotFound: nothing matches, and a flow that is named is not registered.
    """
    _check(which)
    affected, left_out = ledger.retry(lambda tx: operations.count(tx, action, which))
    _check_count(affected)
    return Foreseen(action, affected, left_out, token_of(action, which.told(), affected))


def create(ledger: Ledger, job: Job, which: Which, *, token: str | None = None) -> OperationRow:
    """List its runs; keepers do the rest. The same id or key again gives the operation that there is.

    Raises:
        UsageError: every run is meant, or more than 100,000; there is no reason; the token is of another dry run.
        FlowNotFound: as `foresee`.
        IdempotencyConflict: the key was used for something else.
    """
    _check(which)
    if not job.reason.strip():
        raise UsageError("An operation on many runs has no reason. Fix: say why, for the record.")
    foreseen = None if token is None else affected_of(token, job.action, which.told())

    def work(tx: Connection) -> OperationRow:
        _, left_out = operations.count(tx, job.action, which)
        made = operations.add(tx, job, which, foreseen=foreseen, left_out=left_out)
        if made is None:
            return _made_before(tx, job, which)
        _check_count(made.total)
        became = {"action": job.action, "runs": made.total, "wanted": made.wanted, **job.options}
        _audit(tx, "create", job.id, job.by, became=became, reason=job.reason)
        return made

    return ledger.retry(work)


def _made_before(tx: Connection, job: Job, which: Which) -> OperationRow:
    before = operations.asked_before(tx, job)
    if before is None:
        raise _none(job.id)
    id, hash = before
    if hash != job.hash(which):
        raise IdempotencyConflict(
            f"The key {job.key!r} was used for another operation, {id}. Fix: use another key.", key=job.key
        )
    return _found(operations.get(tx, id), id)


def pause(ledger: Ledger, operation_id: UUID, *, by: str) -> OperationRow:
    """Nothing is begun after this commit, until it is resumed; pausing it again changes nothing.

    Raises:
        OperationNotFound: there is none.
        Conflict: it is over.
    """
    return _move(ledger, operation_id, OperationEvent.PAUSE, OperationState.PAUSED, by)


def resume(ledger: Ledger, operation_id: UUID, *, by: str) -> OperationRow:
    """Keepers go on with it.

    Raises: as `pause`.
    """
    return _move(ledger, operation_id, OperationEvent.RESUME, OperationState.RUNNING, by)


def cancel(ledger: Ledger, operation_id: UUID, *, by: str) -> OperationRow:
    """Leave the runs alone that have no outcome yet. What was done stays done.

    Raises: as `pause`.
    """
    return _move(ledger, operation_id, OperationEvent.CANCEL, OperationState.CANCELLED, by)


def _move(ledger: Ledger, operation_id: UUID, event: OperationEvent, there: OperationState, by: str) -> OperationRow:
    def work(tx: Connection) -> OperationRow:
        state = operations.hold(tx, operation_id)
        if state is None:
            raise _none(operation_id)
        if state is not there:
            if not operations.move(tx, operation_id, state, event, by):
                raise Conflict(
                    f"Operation {operation_id} is {state}, and cannot be told to {event}. Fix: see "
                    f"`orchestrator operation show {operation_id}`.",
                    status=state.value,
                )
            _audit(tx, event, operation_id, by, was={"state": state}, became={"state": there})
        return _found(operations.get(tx, operation_id), operation_id)

    return ledger.retry(work)


def _audit(tx: Connection, action: str, operation_id: UUID, by: str, **facts: Any) -> None:
    access.audit(tx, Actor(by), Act(f"operation.{action}", f"operation/{operation_id}", **facts))


# ---- reading ----


def get(ledger: Ledger, operation_id: UUID) -> OperationRow:
    """
    Raises:
        OperationNotFound: there is none.
    """
    with ledger.auto() as tx:
        return _found(operations.get(tx, operation_id), operation_id)


def page(ledger: Ledger, last: UUID | None, limit: int, *, only_open: bool = False) -> list[OperationRow]:
    """The newest operations, or the next ones after `last`."""
    with ledger.auto() as tx:
        return operations.page(tx, last, limit, only_open=only_open)


def outcomes(
    ledger: Ledger, operation_id: UUID, last: UUID | None, limit: int, outcome: Outcome | None = None
) -> list[OutcomeRow]:
    """A page of what became of its runs, in the order of their ids, from the one after `last`.

    Raises:
        OperationNotFound: there is none.
    """
    with ledger.auto() as tx:
        found = operations.outcomes(tx, operation_id, last, limit, outcome)
        if not found:
            _found(operations.get(tx, operation_id), operation_id)
    return found


def find(ledger: Ledger, part: str) -> UUID:
    """The operation whose id begins with `part`, or else ends with it: four digits or more.

    Raises:
        OperationNotFound: none does.
        Conflict: several do; they are named.
    """
    digits = digits_of(part)
    with ledger.auto() as tx:
        found = [] if digits is None else operations.find(tx, digits)
    if not found:
        raise _none(part)
    if len(found) > 1:
        raise Conflict(
            f"{part} matches several operations: {', '.join(map(str, found))}. Fix: give the last characters; the "
            "first ones are a clock."
        )
    return found[0]


def _found(row: OperationRow | None, operation_id: UUID) -> OperationRow:
    if row is None:
        raise _none(operation_id)
    return row


def _none(name: object) -> OperationNotFound:
    return OperationNotFound(f"No operation {name}. Fix: `orchestrator operation ls` lists them.", id=str(name))


def _check(which: Which) -> None:
    if which.filter == ALL or (which.filter is None and not which.ids):
        what = "no run" if which.filter is None else "every run"
        raise UsageError(f"The operation names {what}. Fix: say which runs, such as those of a flow and a status.")
    if len(which.ids) > MOST_IDS:
        raise UsageError(
            f"{len(which.ids):,} runs are named, and an operation takes {MOST_IDS:,}. Fix: name them by what they have "
            "in common, or in several operations."
        )


def _check_count(runs: int) -> None:
    if runs > MOST_RUNS:
        raise UsageError(
            f"More than {MOST_RUNS:,} runs match, and an operation takes no more. Fix: take a part of them, such as "
            "those of a day, and the next part when that is done."
        )
