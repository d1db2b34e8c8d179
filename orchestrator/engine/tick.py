"""Decide what is due: tick rows, runs and their first dispatches in one commit.

What a tick becomes is computed before anything is locked. The schedule is then held only if its cursor is still where
it was read, so two that fire at once decide a tick once.
"""

import json
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from orchestrator.core import ticks as rules
from orchestrator.core.facts import Dispatch, StartRequest
from orchestrator.core.ticks import Due
from orchestrator.engine import start_run
from orchestrator.engine.cancel_run import cancel_in
from orchestrator.engine.faults import fp
from orchestrator.errors import Conflict, OrchestratorError, RunNotFound
from orchestrator.ledger import schedules, ticks
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.ticks import NewTick
from orchestrator.ledger.tx import Ledger, is_disconnect

log = logging.getLogger(__name__)

CANCEL_GRACE: Final = timedelta(seconds=10)
"""For the handlers of a run that `overlap: cancel` ends."""
POSTPONED: Final = timedelta(seconds=30)
_ZERO: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Fired:
    """What a page led to; the dispatches are for the caller to publish. `more`: call again. `early_s`: the hint came
    before its time by the ledger's clock; call again in so many seconds."""

    decided: int = 0
    started: tuple[UUID, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()
    doubles: int = 0
    more: bool = False
    early_s: float | None = None

    def __add__(self, other: "Fired") -> "Fired":
        return Fired(
            self.decided + other.decided,
            self.started + other.started,
            self.dispatches + other.dispatches,
            self.doubles + other.doubles,
            self.more or other.more,
            self.early_s,
        )


def fire(
    ledger: Ledger,
    *,
    by: str,
    flow: str | None = None,
    key: str | None = None,
    hint: datetime | None = None,
    late: timedelta = _ZERO,
    page: int = 100,
) -> Fired:
    """Decide the ticks that are due (`due_at <= flow_now() - late`), at most of `page` schedules: publish, then call
    again while `more`.

    With `flow` and `key`: of that schedule only; `hint` is the scheduled time that its ticker means. Any number of
    processes may call at once, as often as they like. A schedule whose tick cannot be decided is in nobody's way.
    """
    if flow is not None and key is not None:
        return _fire_one(ledger, flow, key, by, hint, late)
    with ledger.auto() as tx:
        rows = schedules.due(tx, late, page)
    if rows:
        fp("tick.selected")
    random.shuffle(rows)  # keepers that read the same page meet less often
    return _each(rows, lambda row: _fire_row(ledger, row, by), full=len(rows) == page)


def next_due(ledger: Ledger) -> float | None:
    """Seconds until the next tick is due, negative when it is; None when none is."""
    with ledger.auto() as tx:
        return schedules.next_tick(tx)


def waiting(ledger: Ledger, page: int = 100) -> Fired:
    """Start queued ticks whose run before has ended, and the next ticks of backfills; call again while `more`."""
    with ledger.auto() as tx:
        queued, backfills = ticks.startable(tx, page), ticks.open_backfills(tx, page)
    if queued or backfills:
        fp("tick.selected")
    return _each(queued, lambda row: _start_queued(ledger, row), full=len(queued) == page) + _each(
        backfills, lambda row: _go_on(ledger, row), full=len(backfills) == page
    )


def _each(rows: Sequence[Any], work: Callable[[Any], Fired | None], *, full: bool) -> Fired:
    """The sum of what `work` gives; None is no progress. A lost database ends the page: what was committed is told."""
    total, progress = Fired(), False
    for row in rows:
        try:
            found = work(row)
        except DBAPIError as exc:
            if is_disconnect(exc) and not progress:
                raise
            log.warning("tick.failed", extra={"row": str(row)[:200], "error": str(exc.orig)[:200]})
            if is_disconnect(exc):
                break
            continue
        except Exception:
            log.exception("tick.failed", extra={"row": str(row)[:200]})
            continue
        if found is not None:
            total, progress = total + found, True
    return total + Fired(more=full and progress)


# ---- due ticks ----


def _fire_one(ledger: Ledger, flow: str, key: str, by: str, hint: datetime | None, late: timedelta) -> Fired:
    with ledger.auto() as tx:
        row = schedules.find(tx, flow, key)
    if row is None or not row.live:
        return Fired()
    if row.due_at is not None and row.due_at <= row.now - late:
        fp("tick.selected")
        return _fire_row(ledger, row, by) or Fired()
    if hint is None:
        return Fired()
    if row.last_tick_at is not None and row.last_tick_at >= hint:
        ledger.retry(lambda tx: ticks.count_double(tx, row))
        return Fired(doubles=1)
    early = row.due_at is not None and row.next_tick_at is not None and hint >= row.next_tick_at
    return Fired(early_s=(row.due_at - row.now).total_seconds() if early and row.due_at else None)


def _fire_row(ledger: Ledger, row: ScheduleRow, by: str) -> Fired | None:
    """None: somebody else has it."""
    try:
        trigger = row.trigger
        due = rules.due(row.timing(), row.name, row.next_tick_at, row.now, missed=trigger.missed, window=trigger.window)
        if due is None:
            return None
        fired = ledger.retry(lambda tx: carry_out(ledger, tx, row, due, by) if ticks.hold_undecided(tx, row) else None)
    except DBAPIError:
        raise
    except Exception as exc:
        log.exception("tick.undecided", extra={"schedule": row.name})
        error = _error(exc)
        ledger.retry(lambda tx: ticks.postpone(tx, row, error, POSTPONED))
        return None
    fp("tick.committed")
    return fired


def carry_out(ledger: Ledger, tx: Connection, row: ScheduleRow, due: Due, by: str) -> Fired:
    """Write a decision, and start what it starts. The caller holds the schedule."""
    timing, overlap = row.timing(), row.trigger.overlap
    open_: list[UUID] = []
    queued = False
    if due.times and overlap != "allow":
        open_, queued = ticks.open_runs(tx, row)
    new: list[NewTick] = []
    before = open_[0] if open_ else None
    for at, outcome in zip(due.times, rules.outcomes(due.times, overlap, busy=bool(open_) or queued), strict=True):
        run_id = uuid7() if outcome == "started" else None
        waits_for = before if outcome == "queued" else None
        new.append(NewTick(at, outcome, rules.due_at(timing, row.name, at), run_id=run_id, waits_for=waits_for))
        before = run_id or before
    if due.last_missed is not None:
        new.append(NewTick(due.last_missed, "missed", due.last_missed, count=due.missed))
    recorded = ticks.decide(tx, row, new, last=due.last, cursor=due.cursor, due=due.due_at, by=by)
    starts = [(tick.at, tick.run_id) for tick in new if tick.run_id is not None and tick.at in recorded]
    if overlap == "cancel" and starts:
        _cancel(tx, row, open_)
    more = due.due_at is not None and due.due_at <= row.now
    fired = Fired(decided=len(recorded), more=more) + _start(ledger, tx, row, starts, by)
    fp("tick.decided")
    return fired


def _cancel(tx: Connection, row: ScheduleRow, run_ids: Sequence[UUID]) -> None:
    for run_id in sorted(run_ids):
        with suppress(Conflict, RunNotFound):  # it ended meanwhile
            cancel_in(
                tx, run_id, by=f"schedule {row.name}", reason="the next tick of its schedule came", grace=CANCEL_GRACE
            )


def _start(
    ledger: Ledger,
    tx: Connection,
    row: ScheduleRow,
    starts: Sequence[tuple[datetime, UUID]],
    by: str,
    trigger: str = "cron",
) -> Fired:
    """Start the runs; if they are refused, their ticks have failed, and the rest of the transaction stands."""
    if not starts:
        return Fired()
    try:
        started = start_run.start_in(ledger, tx, [request(row, at, run_id, trigger) for at, run_id in starts])
    except OrchestratorError as exc:
        ticks.fail(tx, row, [at for at, _ in starts], _error(exc), by)
        return Fired()
    return Fired(
        started=tuple(each.run_id for each in started),
        dispatches=tuple(dispatch for each in started for dispatch in each.dispatches),
    )


def request(row: ScheduleRow, at: datetime, run_id: UUID, trigger: str = "cron") -> StartRequest:
    """The start of a tick's run."""
    body = json.dumps(row.trigger.input, ensure_ascii=False)
    return StartRequest(row.flow, body, trigger=trigger, run_id=run_id, scheduled_for=at)


def _error(exc: Exception) -> dict[str, str]:
    return {"type": type(exc).__name__, "message": getattr(exc, "message", None) or str(exc)[:1000]}


# ---- queued ticks and backfills ----


def _start_queued(ledger: Ledger, queued: Row[Any]) -> Fired | None:
    flow, key, at = queued.flow, queued.trigger_key, queued.scheduled_at

    def work(tx: Connection) -> Fired | None:
        row = schedules.find(tx, flow, key) if ticks.hold_free(tx, flow, key) else None
        if row is None or not row.live:
            return None
        open_, _ = ticks.open_runs(tx, row)
        if open_:
            ticks.wait_longer(tx, flow, key, at, open_[0])
            return Fired()
        run_id = uuid7()
        if not ticks.start_queued(tx, flow, key, at, run_id):
            return None
        fired = _start(ledger, tx, row, [(at, run_id)], "watchdog")
        fp("tick.decided")
        return fired + Fired(decided=1)

    fired = ledger.retry(work)
    fp("tick.committed")
    return fired


def _go_on(ledger: Ledger, open_: Row[Any]) -> Fired | None:
    """The next ticks of a backfill, as many as have room; its end, when nothing is left."""

    def work(tx: Connection) -> Fired | None:
        row = schedules.find(tx, open_.flow, open_.trigger_key) if _held(tx, open_) else None
        found = ticks.backfill(tx, open_.id) if row is not None and row.flow_enabled else None
        if row is None or found is None:
            return None
        room = min(found.max_parallel - len(found.running), rules.AT_ONCE)
        run_ids = [uuid7() for _ in range(max(0, room))]
        starts = ticks.start_pending(tx, open_.id, reverse=found.reverse, running=found.running, run_ids=run_ids)
        fired = _start(ledger, tx, row, starts, "operator", "backfill")
        fp("tick.decided")
        return fired + Fired(decided=len(starts))

    fired = ledger.retry(work)
    fp("tick.committed")
    return fired


def _held(tx: Connection, row: Row[Any]) -> bool:
    return ticks.hold_free(tx, row.flow, row.trigger_key)
