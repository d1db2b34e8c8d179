"""The end of a run is told to the step that called it: one transaction, which holds the parent."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.facts import Dispatch, Finished, Swept
from orchestrator.core.happened import RunOf
from orchestrator.core.states import FINAL_RUN, StepStatus
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.engine.subflows import calls
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.errors import RunNotFound
from orchestrator.ledger import subflows
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Told:
    """Which run was told, and what followed there; None: nothing did."""

    parent: RunOf
    finished: Finished


def tell(ledger: Ledger, run_id: UUID) -> tuple[Dispatch, ...]:
    """Tell the parent of a run that has ended, and so on upwards as long as that ends a run. Telling again changes
    nothing. The dispatches are for the caller to publish."""
    dispatches: tuple[Dispatch, ...] = ()
    ended: UUID | None = run_id
    while ended is not None:
        told = _tell(ledger, ended)
        if told is None:
            break
        dispatches += told.finished.dispatches
        ended = told.parent.run_id if told.finished.untold else None
    return dispatches


def untold(ledger: Ledger, walk: Walk | None = None) -> Swept:
    """A page of runs whose parents were not told: whoever ended them died, or ends runs without having workers."""
    walk = walk or Walk()
    with ledger.auto() as tx:
        rows = subflows.untold(tx, walk.page, walk.position)

    def work(row: Row[Any]) -> tuple[Dispatch, ...] | None:
        return tell(ledger, row.run_id)

    return walk.go(rows, work)


def _tell(ledger: Ledger, run_id: UUID) -> Told | None:
    with ledger.auto() as tx:
        parent = subflows.parent_of(tx, run_id)
    if parent is None:
        return None
    fp("report.before")
    told = ledger.retry(lambda tx: _tell_in(ledger, tx, run_id, *parent))
    fp("report.committed")
    if told is not None:
        notify_followed(told.parent, told.finished)
    return told


def _tell_in(ledger: Ledger, tx: Connection, run_id: UUID, parent: UUID, step_key: str) -> Told | None:
    try:
        held = HeldRun.lock(ledger, tx, parent)
    except RunNotFound:
        subflows.tell(tx, run_id)
        return None
    child = subflows.tell(tx, run_id)
    if child is None or held.run.status in FINAL_RUN:
        return None
    call = subflows.call(tx, parent, step_key)
    if call.status is not StepStatus.RUNNING or call.child != run_id:
        return None
    run = RunOf(held.id, held.run.flow, held.run.trigger)
    end = calls.ended(held, held.plan.node(step_key), child)
    if end is None:
        return Told(run, Finished())
    return Told(run, replace(advance.after(held, {end.key: end.status}, end.error)))
