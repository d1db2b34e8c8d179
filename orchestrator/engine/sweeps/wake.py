"""Waiting steps that the engine looks at itself, with their run held, and runs that begin later: their time has
come."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.facts import Dispatch, Finished, Swept
from orchestrator.core.happened import RunOf
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import start_run
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.engine.sweeps.walk import Walk
from orchestrator.ledger import graph, sweeps
from orchestrator.ledger.tx import Ledger

_RUNS: Final = 25
"""Runs in one transaction: they share its commit, and nobody waits long for one of them."""


def wake(ledger: Ledger, walk: Walk | None = None, *, late: timedelta = timedelta(0)) -> Swept:
    """A page of those whose time came `late` ago. Any number of keepers may work at it: a run that one of them holds is
    left to it."""
    walk = walk or Walk()
    with ledger.auto() as tx:
        rows = sweeps.to_wake(tx, walk.page, walk.position, late)
    if rows:
        fp("wake.selected")
    postponed = False

    def work(piece: Sequence[Row[Any]]) -> tuple[Dispatch, ...] | None:
        nonlocal postponed
        woken = _work(ledger, piece)
        postponed |= any(finished.postponed for finished in woken)
        return tuple(dispatch for finished in woken for dispatch in finished.dispatches) if woken else None

    swept = walk.go_in(rows, _pieces(rows), work)
    return replace(swept, more=swept.more or postponed)


def _pieces(rows: Sequence[Row[Any]]) -> list[list[Row[Any]]]:
    """All steps of a run in one piece."""
    by_run: dict[UUID, list[Row[Any]]] = {}
    for row in rows:
        by_run.setdefault(row.run_id, []).append(row)
    runs = list(by_run.values())
    return [[row for run in runs[at : at + _RUNS] for row in run] for at in range(0, len(runs), _RUNS)]


def _work(ledger: Ledger, piece: Sequence[Row[Any]]) -> list[Finished]:
    """One transaction. Nothing when other keepers were faster, or the runs were halted meanwhile."""
    woken = ledger.retry(lambda tx: _wake(ledger, tx, piece))
    if woken:
        fp("wake.committed")
    for run, finished in woken:
        notify_followed(run, finished)
    return [finished for _, finished in woken]


def _wake(ledger: Ledger, tx: Connection, piece: Sequence[Row[Any]]) -> list[tuple[RunOf, Finished]]:
    found = [HeldRun(ledger, tx, run) for run in graph.lock_free(tx, sorted({row.run_id for row in piece}))]
    held = {run.id: run for run in found if run.run.halt is None}
    due = sweeps.still_to_wake(tx, list(held), [row.step_key for row in piece if row.step_key])
    later = sweeps.open_later(tx, [row.run_id for row in piece if not row.step_key and row.run_id in held])
    followed = [(run_id, advance.woken(held[run_id], keys)) for run_id, keys in due.items()]
    followed += [(run_id, start_run.begin_later(held[run_id])) for run_id in sorted(later)]
    return [(held[run_id].as_fact(), finished) for run_id, finished in followed]
