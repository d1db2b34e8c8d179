"""Pages of work for the keeper. Any number of keepers may ask at once: rows one holds are skipped by the others."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.facts import Dispatch, Lease
from orchestrator.ledger.rows import dispatches, one, run, under


class Position(NamedTuple):
    """How far a walk through rows in the order of their times has come."""

    at: str
    run_id: UUID
    step_key: str

    def values(self) -> dict[str, Any]:
        """As a statement takes it."""
        return {"begin": self.at, "begin_run": self.run_id, "begin_step": self.step_key}


class LossLimits(NamedTuple):
    """How often a step may be lost: with a worker that crashed, and with one that was told to stop."""

    crash_limit: int
    deploy_limit: int = 100

    def reached(self, row: Row[Any]) -> bool:
        """Whether the step of this claim was lost so often that it may not run again."""
        return bool(row.deploys >= self.deploy_limit if row.deploy else row.crashes >= self.crash_limit)


START: Final = Position("-infinity", UUID(int=0), "")


def requeue_expired(tx: Connection, page: int, limits: LossLimits) -> Sequence[Row[Any]]:
    """RUNNING to READY for steps whose lease ran out; the dispatches, each with the version of the lost claim."""
    return run(tx, "requeue_expired", page=page, **limits._asdict()).all()


def expired(tx: Connection, page: int, position: Position, limits: LossLimits) -> Sequence[Row[Any]]:
    """Claims whose lease ran out, of steps that may not run again."""
    return run(tx, "expired", page=page, **limits._asdict(), **position.values()).all()


def held_by(tx: Connection, owner: str, page: int, *, stopping: bool) -> Sequence[Row[Any]]:
    """Live claims of a worker process and its pool children, or of one child."""
    return run(tx, "held_by", owner=owner, prefix=under(owner), page=page, stopping=stopping).all()


def held_still(tx: Connection, owner: str, page: int) -> Sequence[Row[Any]]:
    """The same of a worker that stops, also those that somebody writes at this moment."""
    return run(tx, "held_still", owner=owner, prefix=under(owner), page=page, stopping=True).all()


def requeue_lost(tx: Connection, rows: Sequence[Row[Any]], why: str | None = None) -> tuple[Dispatch, ...]:
    """RUNNING to READY for attempts of a worker that is dead, each if it is still at the version of its row; or of one
    that hands them back, which costs nothing, and says `why`."""
    found = run(
        tx,
        "requeue_lost",
        run_ids=[row.run_id for row in rows],
        step_keys=[row.step_key for row in rows],
        versions=[row.version for row in rows],
        deploys=[row.deploy for row in rows],
        why=why,
    )
    return dispatches(found.all())


def hand_over(tx: Connection, lease: Lease, why: str) -> tuple[Dispatch, ...]:
    """RUNNING to READY for a claim that its own handler ends; empty when it was not live any more, or its run was
    halted."""
    found = run(
        tx,
        "requeue_lost",
        run_ids=[lease.run_id],
        step_keys=[lease.step_key],
        versions=[lease.fence],
        deploys=[True],
        why=why,
    )
    return dispatches(found.all())


def session_name(run_id: UUID, step_key: str, version: int) -> str:
    """What the transaction of a transactional step is called in the database; names have room for 63 characters."""
    return f"orchestrator step {blake2b(f'{run_id}/{step_key}/{version}'.encode(), digest_size=16).hexdigest()}"


def end_sessions(tx: Connection, rows: Sequence[Row[Any]]) -> None:
    """End the transactions of these claims, where they are not live any more."""
    run(
        tx,
        "end_sessions",
        names=[session_name(row.run_id, row.step_key, row.version) for row in rows],
        run_ids=[row.run_id for row in rows],
        step_keys=[row.step_key for row in rows],
        versions=[row.version for row in rows],
    )


class Timers(NamedTuple):
    """The dispatches of a page of steps whose time has come; the seconds until the next timer, None when none is set;
    whether there are steps `to_wake` now, and runs that have ended, `untold` to those that called them."""

    dispatches: tuple[Dispatch, ...]
    next_s: float | None
    to_wake: bool
    untold: bool


def due(tx: Connection, page: int) -> Timers:
    """WAITING to READY for steps whose time has come."""
    *found, last = run(tx, "due", page=page).all()
    return Timers(dispatches([tuple(row)[:6] for row in found]), last.next_s, last.to_wake, last.untold)


def to_wake(tx: Connection, page: int, position: Position, late: timedelta) -> Sequence[Row[Any]]:
    """Waiting steps that the engine looks at now; their time came `late` ago."""
    return run(tx, "to_wake", page=page, late=late, **position.values()).all()


def still_to_wake(tx: Connection, run_ids: Sequence[UUID], step_keys: Sequence[str]) -> dict[UUID, list[str]]:
    """By run, which of these steps still wait for a time that has come. The caller holds the runs."""
    found: dict[UUID, list[str]] = {}
    for row in run(tx, "still_to_wake", run_ids=list(run_ids), step_keys=sorted(set(step_keys))) if run_ids else ():
        found.setdefault(row.run_id, []).append(row.step_key)
    return found


def open_later(tx: Connection, run_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these runs, which the caller holds, that begin now."""
    return {row.run_id for row in run(tx, "open_later", run_ids=list(run_ids))} if run_ids else set()


def past_deadline(tx: Connection, page: int, position: Position) -> Sequence[Row[Any]]:
    """Open runs past their deadline that nothing stopped yet."""
    return run(tx, "past_deadline", page=page, **position.values()).all()


def still_late(tx: Connection, run_id: UUID) -> bool:
    """Whether the run, which the caller holds, is past its deadline."""
    return one(tx, "still_late", run_id=run_id) is not None


def past_queue_deadline(tx: Connection, page: int, position: Position) -> Sequence[Row[Any]]:
    """Ready steps that nobody claimed in time."""
    return run(tx, "past_queue_deadline", page=page, **position.values()).all()


def still_ready(tx: Connection, run_id: UUID, step_key: str, number: int) -> Row[Any] | None:
    """The step, locked, if it still waits at that dispatch past its limit."""
    return one(tx, "still_ready", run_id=run_id, step_key=step_key, number=number)


def overrun(tx: Connection, owner: str, page: int, position: Position) -> Sequence[Row[Any]]:
    """Live claims of a worker past their step timeout or their run's grace."""
    return run(tx, "overrun", owner=owner, prefix=under(owner), page=page, **position.values()).all()
