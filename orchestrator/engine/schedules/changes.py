"""How a schedule changes: what is due is decided first, then the cursor goes on from now. For callers that hold it.

What was due before a rule changed belongs to the old rule. What was due before a schedule stopped is written down as
missed, and not started behind the back of whoever stopped it.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from pydantic import ValidationError
from sqlalchemy import Connection

from orchestrator.core import ticks as rules
from orchestrator.core.facts import Dispatch
from orchestrator.core.schedule_ids import schedule_name
from orchestrator.core.timing import Timing
from orchestrator.engine.schedules import tick
from orchestrator.errors import ScheduleInvalid
from orchestrator.ledger import schedules, ticks
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.ticks import Stored
from orchestrator.ledger.tx import Ledger

_PAGES: Final = 10
"""At most this many pages of ticks are started by `missed: all` before a rule changes; the rest is missed."""


def again(tx: Connection, row: ScheduleRow) -> ScheduleRow:
    """The schedule as this transaction left it."""
    found = schedules.find(tx, row.flow, row.trigger_key)
    assert found is not None
    return found


def timing_of(row: ScheduleRow) -> Timing | None:
    """When it fires; None when this release, or this machine's zones, cannot read what is stored."""
    try:
        return row.timing()
    except (ValidationError, ScheduleInvalid):
        return None


def settle(ledger: Ledger, tx: Connection, row: ScheduleRow, by: str) -> tuple[ScheduleRow, tuple[Dispatch, ...]]:
    """Decide every scheduled time up to now by the rule as it is, its jitter left out; the schedule afterwards."""
    dispatches: tuple[Dispatch, ...] = ()
    timing = timing_of(row)
    if not row.live or timing is None:
        return row, dispatches
    for _ in range(_PAGES):
        makes_up = rules.MakesUp(row.trigger.missed, row.trigger.window)
        due = rules.due(timing, row.name, row.next_tick_at, row.now, makes_up, jittered=False)
        if due is None:
            return row, dispatches
        dispatches += tick.carry_out(ledger, tx, [(row, due)], by).dispatches
        row = again(tx, row)
    return dismiss(tx, row, by), dispatches


def dismiss(tx: Connection, row: ScheduleRow, by: str) -> ScheduleRow:
    """Write down as missed whatever was scheduled up to now and is not decided; the schedule afterwards."""
    timing = timing_of(row)
    if timing is None:
        return row
    due = rules.due(timing, row.name, row.next_tick_at, row.now, rules.MakesUp("none"), jittered=False)
    if due is None:
        return row
    assert due.last_missed is not None
    missed = ticks.NewTick(due.last_missed, "missed", due.last_missed, count=due.missed)
    ticks.decide(tx, [ticks.Decision(row.id, [missed], last=due.last, cursor=due.cursor, due=due.due_at)], by)
    return again(tx, row)


def stopped(tx: Connection, row: ScheduleRow, by: str) -> Stored:
    """A schedule that does not fire from now on: nothing of it is due, nothing waits."""
    row = dismiss(tx, row, by)
    ticks.skip_queued(tx, row.flow, row.trigger_key)
    return replace(Stored.of(row), cursor=None, due=None)


def going_on(stored: Stored, settled_until: datetime, *, enabled: bool) -> Stored:
    """`stored` with the cursor at its first fire after `settled_until`, if it is to fire at all."""
    if not (stored.active and stored.paused_at is None and enabled):
        return replace(stored, cursor=None, due=None)
    timing = stored.timing()
    cursor = timing.after(settled_until)
    due = None if cursor is None else rules.due_at(timing, schedule_name(stored.flow, stored.key), cursor)
    return replace(stored, cursor=cursor, due=due)
