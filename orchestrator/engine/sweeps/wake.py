"""Waiting steps that the engine looks at itself, with their run held: their time has come."""

from typing import Any

from sqlalchemy import Connection, Row

from orchestrator.core.facts import Dispatch, Finished, Swept
from orchestrator.core.happened import RunOf
from orchestrator.engine.faults import fp
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.ledger import sweeps
from orchestrator.ledger.tx import Ledger


def wake(ledger: Ledger, walk: Walk | None = None) -> Swept:
    """A page of them."""
    walk = walk or Walk()
    with ledger.auto() as tx:
        rows = sweeps.to_wake(tx, walk.page, walk.position)

    def work(row: Row[Any]) -> tuple[Dispatch, ...] | None:
        woken = ledger.retry(lambda tx: _wake(ledger, tx, row))
        if woken is None:
            return None
        fp("wake.committed")
        notify_followed(*woken)
        return woken[1].dispatches

    return walk.go(rows, work)


def _wake(ledger: Ledger, tx: Connection, row: Row[Any]) -> tuple[RunOf, Finished] | None:
    """None when another keeper was faster, or the run was halted meanwhile."""
    held = HeldRun.lock(ledger, tx, row.run_id)
    if held.run.halt is not None or not sweeps.still_to_wake(tx, row.run_id, row.step_key):
        return None
    return RunOf(held.id, held.run.flow, held.run.trigger), advance.woken(held, row.step_key)
