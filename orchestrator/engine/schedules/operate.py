"""What operators do to schedules. Each change is an event with the actor; a bad request writes nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection
from uuid_utils.compat import uuid7

from orchestrator.core import ticks as rules
from orchestrator.core.access import Act, Actor
from orchestrator.core.facts import Dispatch, StartedRun
from orchestrator.core.happened import Operated, RunOf
from orchestrator.core.triggers import overridden
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import start_run
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.changes import going_on, settle, stopped
from orchestrator.engine.steps.notifying import notify_started
from orchestrator.errors import Conflict, FlowDisabled, ScheduleInvalid, ScheduleNotFound
from orchestrator.ledger import access, schedules, ticks
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.ticks import Span, Stored
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify

MOST_TICKS: Final = 10_000
"""The most ticks of one backfill."""
MOST_PARALLEL: Final = 1_000
_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_OPERATOR: Final = "operator"


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill as it was asked for. `times`: what it starts, in order; `taken`: how many of the span have a run
    already. `id` is None for a dry run, and when there is nothing to start."""

    id: UUID | None
    flow: str
    key: str
    since: datetime
    until: datetime
    times: tuple[datetime, ...]
    taken: int
    max_parallel: int
    reverse: bool


def pause(ledger: Ledger, flow: str, key: str, *, by: str | Actor, reason: str | None = None) -> None:
    """No tick is decided after this commit. What was due and not decided is missed, what was queued is skipped; a
    backfill goes on.

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
    """

    who = Actor.of(by)

    def work(tx: Connection) -> None:
        row = _held(tx, flow, key)
        stopping = stopped(tx, row, _OPERATOR)
        stored = replace(stopping, paused_at=row.now, paused_by=who.name, pause_reason=reason)
        ticks.put(tx, stored)
        ticks.event(tx, flow, key, "paused", actor=who.name, reason=reason)
        _audit(tx, who, "pause", row, stored, reason)

    ledger.retry(work)
    notify(Operated("schedule.pause"))


def resume(ledger: Ledger, flow: str, key: str, *, by: str | Actor) -> None:
    """It fires again from the first time after now: a pause is not made up for. Nothing happens when it is not paused.

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
    """

    who = Actor.of(by)

    def work(tx: Connection) -> None:
        row = _held(tx, flow, key)
        if row.paused_at is None:
            return
        stored = replace(Stored.of(row), paused_at=None, paused_by=None, pause_reason=None)
        ticks.put(tx, going_on(stored, row.settled_until, enabled=row.flow_enabled))
        ticks.event(tx, flow, key, "resumed", actor=who.name)
        _audit(tx, who, "resume", row, stored)

    ledger.retry(work)
    notify(Operated("schedule.resume"))


def trigger(ledger: Ledger, flow: str, key: str, *, by: str) -> StartedRun:
    """Start a run with the schedule's input now, whatever its rule, pause and overlap say; publish its dispatches.

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
        FlowDisabled: nothing was started.
        Conflict: the current manifest does not have the schedule.
        InputInvalid: its input does not fit the flow.
    """

    def work(tx: Connection) -> tuple[RunOf, StartedRun]:
        row = _of_current(_held(tx, flow, key))
        run_id, at = uuid7(), row.now
        while at.microsecond == 0 or not ticks.add_manual(tx, flow, key, at, run_id):  # ticks have the whole seconds
            at += _MICROSECOND
        request = tick.request(row, at, run_id)
        (started,) = start_run.start_in(ledger, tx, [request])
        ticks.event(tx, flow, key, "triggered", actor=by, run_id=str(run_id))
        fp("tick.decided")
        return RunOf(run_id, flow, request.trigger), started

    run, started = ledger.retry(work)
    fp("tick.committed")
    notify(Operated("schedule.trigger"))
    notify_started(run, started)
    return started


def set_cron(
    ledger: Ledger, flow: str, key: str, expression: str, *, zone: str | None = None, by: str | Actor
) -> tuple[Dispatch, ...]:
    """Override the rule until `reset`; without `zone` it is read in the zone the schedule has now.

    What is due by the old rule is decided first: its dispatches are for the caller to publish (a keeper would too).

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
        ScheduleInvalid: the expression or the zone is wrong, or it never fires; nothing was written.
    """

    who = Actor.of(by)

    def work(tx: Connection) -> tuple[Dispatch, ...]:
        row = _held(tx, flow, key)
        where = zone or row.zone
        timing = overridden(row.trigger, expression, where).timing()
        if timing.after(row.settled_until) is None:
            raise ScheduleInvalid(
                f"`{expression}` never fires from now on, within the bounds of schedule {row.name}. Fix: write another "
                "expression.",
                place="expression",
            )
        row, dispatches = settle(ledger, tx, row, _OPERATOR)
        stored = replace(
            Stored.of(row), expression=expression, zone=where, overridden_at=row.now, overridden_by=who.name
        )
        ticks.put(tx, going_on(stored, row.settled_until, enabled=row.flow_enabled))
        was = {"expression": row.expression, "zone": row.zone} if row.expression else None
        ticks.event(tx, flow, key, "cron_set", actor=who.name, expression=expression, zone=where, was=was)
        _audit(tx, who, "set", row, stored)
        return dispatches

    done = ledger.retry(work)
    notify(Operated("schedule.set"))
    return done


def reset(ledger: Ledger, flow: str, key: str, *, by: str | Actor) -> tuple[Dispatch, ...]:
    """Back to the rule of the code; dispatches as of `set_cron`. Nothing happens without an override.

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
    """

    who = Actor.of(by)

    def work(tx: Connection) -> tuple[Dispatch, ...]:
        row = _held(tx, flow, key)
        if row.expression is None and row.zone is None:
            return ()
        row, dispatches = settle(ledger, tx, row, _OPERATOR)
        stored = replace(Stored.of(row), expression=None, zone=None, overridden_at=None, overridden_by=None)
        ticks.put(tx, going_on(stored, row.settled_until, enabled=row.flow_enabled))
        was = {"expression": row.expression, "zone": row.zone}
        ticks.event(tx, flow, key, "reset", actor=who.name, was=was)
        _audit(tx, who, "reset", row, stored)
        return dispatches

    done = ledger.retry(work)
    notify(Operated("schedule.reset"))
    return done


def _audit(tx: Connection, by: Actor, action: str, row: ScheduleRow, became: Stored, reason: str | None = None) -> None:
    act = Act(f"schedule.{action}", f"schedule/{row.name}", _told(Stored.of(row)), _told(became), reason)
    access.audit(tx, by, act)


def _told(one: Stored) -> dict[str, Any]:
    """What operators change of it."""
    return {
        "paused": one.paused_at is not None,
        "pause_reason": one.pause_reason,
        "expression": one.expression,
        "zone": one.zone,
    }


def backfill(
    ledger: Ledger,
    flow: str,
    key: str,
    span: Span,
    *,
    by: str,
    dry_run: bool = False,
) -> Backfill:
    """Note a run for every time of the span that has none; `tick.waiting` starts them, in order.

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
        FlowDisabled: nothing would start.
        Conflict: the current manifest does not have the schedule.
        ScheduleInvalid: the span is empty, in the future, or holds more than 10,000 times; nothing was written.
    """
    since, until = _instant(span.since, "since"), _instant(span.until, "until")
    span = replace(span, since=since, until=until)
    if not since < until:
        raise _refused("until", f"{until.isoformat()} is not after {since.isoformat()}", "swap them, or widen the span")
    if not 1 <= span.max_parallel <= MOST_PARALLEL:
        raise _refused("max_parallel", f"{span.max_parallel} runs at once", f"give 1 to {MOST_PARALLEL}")

    def work(tx: Connection) -> Backfill:
        row = _of_current(_found(tx, flow, key) if dry_run else _held(tx, flow, key))
        if not row.flow_enabled:
            raise FlowDisabled(
                f"Flow {flow} is disabled: a backfill would wait. Fix: `orchestrator flow enable {flow}`.", flow=flow
            )
        due = _times(row, since, until)
        taken = ticks.taken(tx, flow, key, since, until)
        times = [at for at in due if at not in taken]
        if span.reverse:
            times.reverse()
        new = None if dry_run or not times else uuid7()
        if new is not None:
            ticks.add_backfill(tx, new, (flow, key), span, times, by=by)
            facts = {"since": since.isoformat(), "until": until.isoformat(), "ticks": len(times)}
            ticks.event(tx, flow, key, "backfill_started", actor=by, backfill=str(new), **facts)
        taken_count = len(due) - len(times)
        return Backfill(id=new, flow=flow, key=key, times=tuple(times), taken=taken_count, **asdict(span))

    done = ledger.retry(work)
    if not dry_run:
        notify(Operated("schedule.backfill"))
    return done


def cancel_backfill(ledger: Ledger, flow: str, key: str, backfill_id: UUID, *, by: str) -> int:
    """Start no more of it; how many were taken back. Runs that were started go on.

    Raises:
        ScheduleNotFound: the schedule has no such backfill. That of another one is none of its own: whoever may operate
            a flow may not operate all of them.
    """

    def work(tx: Connection) -> int:
        found = ticks.find_backfill(tx, backfill_id)
        if found is None or (found.flow, found.trigger_key) != (flow, key):
            raise ScheduleNotFound(
                f"{flow}/{key} has no backfill {backfill_id}. "
                "Fix: take the id that `orchestrator schedule backfill` printed.",
                id=str(backfill_id),
            )
        ticks.hold(tx, found.flow, found.trigger_key)
        if found.ended_at is not None:
            return 0
        return end_backfill(tx, found.flow, found.trigger_key, backfill_id, by)

    done = ledger.retry(work)
    notify(Operated("schedule.cancel_backfill"))
    return done


def end_backfill(tx: Connection, flow: str, key: str, backfill_id: UUID, by: str) -> int:
    """End it; the caller holds the schedule."""
    cancelled = ticks.end_backfill(tx, backfill_id, by)
    if cancelled:
        ticks.event(tx, flow, key, "backfill_cancelled", actor=by, backfill=str(backfill_id), ticks=cancelled)
    return cancelled


# ---- reading what is asked for ----


def _found(tx: Connection, flow: str, key: str) -> ScheduleRow:
    row = schedules.find(tx, flow, key)
    if row is None:
        raise schedules.unknown_schedule(tx, flow, key)
    return row


def _held(tx: Connection, flow: str, key: str) -> ScheduleRow:
    """Read after it is held: what was read before the wait is old."""
    ticks.hold(tx, flow, key)
    return _found(tx, flow, key)


def _of_current(row: ScheduleRow) -> ScheduleRow:
    if not row.active:
        raise Conflict(
            f"The current version of flow {row.flow} does not have schedule {row.trigger_key}. Fix: `orchestrator "
            f"schedule ls {row.flow}` shows what it has.",
            flow=row.flow,
            key=row.trigger_key,
        )
    return row


def _times(row: ScheduleRow, since: datetime, until: datetime) -> Sequence[datetime]:
    if until > row.now:
        raise _refused("until", f"{until.isoformat()} is in the future", f"end it by {row.now.isoformat()}")
    timing = row.timing()
    # [since, until) in whole seconds is (since - 1 s, until - 1 s] of the first seconds that are not before them.
    low, high = _ceiling(since) - _SECOND, _ceiling(until) - _SECOND
    found = timing.between(low, high, MOST_TICKS + 1)
    if len(found) > MOST_TICKS:
        count = timing.count(low, high, rules.COUNTED)
        raise _refused(
            "since",
            f"the span holds {count:,} ticks or more; a backfill has at most {MOST_TICKS:,}",
            "take a shorter span, and the rest when it has ended",
            count=count,
        )
    return found


def _ceiling(at: datetime) -> datetime:
    return at if at.microsecond == 0 else at.replace(microsecond=0) + _SECOND


def _instant(value: datetime, place: str) -> datetime:
    if value.utcoffset() is None:
        raise _refused(
            place, f"{value.isoformat()} has no offset to UTC", "give a time such as 2026-01-31T07:00:00+01:00"
        )
    return value.astimezone(UTC)


def _refused(place: str, problem: str, fix: str, **facts: Any) -> ScheduleInvalid:
    return ScheduleInvalid(f"`{place}`: {problem}. Fix: {fix}.", place=place, **facts)
