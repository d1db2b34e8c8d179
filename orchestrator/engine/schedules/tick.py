"""Decide what is due: tick rows, runs and their first dispatches in one commit.

What a tick becomes is computed before anything is locked. Schedules are then held only if their cursors are still where
they were read, so two that fire at once decide a tick once. Many schedules are one transaction; when that fails, it is
tried again without those that are to blame.
"""

import json
import logging
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from orchestrator.core import ticks as rules
from orchestrator.core.facts import StartRequest
from orchestrator.core.happened import Ended, RunOf, Ticked
from orchestrator.core.ticks import Due
from orchestrator.engine.batches import Batch, run_batches
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import start_run
from orchestrator.engine.runs.cancel_run import cancel_in
from orchestrator.engine.schedules.fired import Fired
from orchestrator.engine.steps.notifying import notify_started
from orchestrator.errors import Conflict, ManifestUnreadable, OrchestratorError, RunNotFound
from orchestrator.ledger import schedules, ticks
from orchestrator.ledger.passing import passing
from orchestrator.ledger.schedules import ScheduleId, ScheduleRow
from orchestrator.ledger.ticks import NOTHING_OPEN, Decision, NewTick, OpenRuns
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.observe.observer import notify

log = logging.getLogger(__name__)

BATCH: Final = 50
"""Schedules of one transaction, or runs that they start: whoever pauses one of them waits for all, and a process that
dies with them leaves all of them to a watchdog."""
CANCEL_GRACE: Final = timedelta(seconds=10)
"""Time that the handlers of a run have when `overlap: cancel` ends it."""
POSTPONED: Final = timedelta(seconds=30)
_HINTED: Final = "beat"
"""Who decides what a beat announced."""
_ZERO: Final = timedelta(0)

DueSchedule = tuple[ScheduleRow, Due]
"""A schedule as it was read, and what is due of it."""
_Start = tuple[ScheduleRow, datetime, UUID]
"""A schedule, the time of a tick, and the id of its run."""


@dataclass(frozen=True, slots=True)
class AnnouncedResult:
    """What hints led to. `early_s`: those that came before their time by the ledger's clock, and by how much. `left`:
    those that nothing came of, because the database was lost."""

    fired: Fired
    early_s: Mapping[ScheduleId, float]
    left: tuple[ScheduleId, ...]


def fire(ledger: Ledger, *, by: str, late: timedelta = _ZERO, page: int = 100, newer: bool = True) -> Fired:
    """Decide the ticks that are due (`due_at <= flow_now() - late`), at most of `page` schedules: publish, then call
    again while `more`.

    Any number of processes may call at once, as often as they like. A schedule whose tick cannot be decided does not
    hold up the others. `newer`: ask, too, whether something due is left to a newer release.
    """
    with ledger.auto() as tx:
        rows = schedules.due(tx, late, page)
        unreadable = newer and schedules.left_to_newer(tx, late)
    random.shuffle(rows)  # keepers that read the same page meet less often
    done = _fire_rows(ledger, rows, by)
    return _all_of(done) + Fired(more=len(rows) == page and done.progress, unreadable=unreadable)


def decide_announced(ledger: Ledger, hints: Mapping[ScheduleId, datetime | None], *, by: str) -> AnnouncedResult:
    """Decide what is due of the schedules that a ticker names. A hint is the scheduled time it means, if it means one;
    the hint of a time that was decided before is counted as a double. What only a newer release can read is left to it.

    Give at most `BATCH`: publish, then ask again, without a time, for those that are `unfinished`. As with `fire`,
    anybody may call.

    Raises:
        DBAPIError: nothing came of any of them.
    """
    with ledger.auto() as tx:
        rows = [row for row in schedules.named(tx, hints) if row.live and row.readable]
    done = _fire_rows(ledger, [row for row in rows if row.is_due], by)
    if done.error is not None and not done.progress:
        raise done.error
    meant = [(row, hint) for row in rows if not row.is_due and (hint := hints[row.id]) is not None]
    doubles = [row.id for row, hint in meant if row.last_tick_at is not None and row.last_tick_at >= hint]
    early_s = {
        row.id: (row.due_at - row.now).total_seconds()
        for row, hint in meant
        if row.due_at is not None and row.next_tick_at is not None and hint >= row.next_tick_at
    }
    left = [row.id for row, _ in done.left]
    try:
        counted = _count_doubles(ledger, doubles)
    except DBAPIError as exc:
        if not done.progress:
            raise
        log.warning("tick.failed", extra={"doubles": len(doubles), "error": str(exc.orig)[:200]})
        counted, left = 0, [*left, *doubles]
    return AnnouncedResult(_all_of(done) + Fired(doubles=counted), early_s, tuple(left))


def next_due(ledger: Ledger) -> float | None:
    """Seconds until the next tick is due, negative when it is; None when none is."""
    with ledger.auto() as tx:
        return schedules.next_tick(tx)


def any_waits(ledger: Ledger) -> bool:
    """Whether there is a queued tick or an open backfill at all, startable or not."""
    with ledger.auto() as tx:
        return ticks.any_waits(tx)


def waiting(ledger: Ledger, page: int = 100) -> Fired:
    """Start queued ticks whose run before has ended, and the next ticks of backfills; call again while `more`."""
    with ledger.auto() as tx:
        queued, backfills = ticks.startable(tx, page), ticks.open_backfills(tx, page)
    if queued or backfills:
        fp("tick.selected")
    one = run_batches([[row] for row in queued], lambda piece: _start_queued(ledger, piece[0]), _failed)
    other = run_batches([[row] for row in backfills], lambda piece: _go_on(ledger, piece[0]), _failed)
    more = (len(queued) == page and one.progress) or (len(backfills) == page and other.progress)
    return _all_of(one) + _all_of(other) + Fired(more=more)


def _all_of(batch: Batch[Any, Fired]) -> Fired:
    return sum(batch.done, Fired())


def _failed(row: object, exc: Exception) -> None:
    facts = {"row": str(row)[:200]}
    if isinstance(exc, DBAPIError):
        log.warning("tick.failed", extra={**facts, "error": str(exc.orig)[:200]})
    else:
        log.error("tick.failed", extra=facts, exc_info=exc)


# ---- due ticks ----


def _fire_rows(ledger: Ledger, rows: Sequence[ScheduleRow], by: str) -> Batch[DueSchedule, Fired]:
    if rows:
        fp("tick.selected")
    return run_batches(_pieces(_judged(ledger, rows)), lambda piece: _decide(ledger, piece, by), _failed)


def _judged(ledger: Ledger, rows: Sequence[ScheduleRow]) -> list[DueSchedule]:
    """What is due. A schedule that cannot be read has nothing due; it is postponed."""
    found = []
    for row in rows:
        try:
            trigger, timing = row.trigger, row.timing()
            due = rules.due(timing, row.name, row.next_tick_at, row.now, rules.MakesUp(trigger.missed, trigger.window))
        except Exception as exc:
            _postpone(ledger, row, exc)
            continue
        if due is not None:
            found.append((row, due))
    return found


def _pieces(found: Sequence[DueSchedule]) -> Iterator[list[DueSchedule]]:
    piece: list[DueSchedule] = []
    runs = 0
    for row, due in found:
        more = max(1, len(due.times))
        if piece and runs + more > BATCH:
            yield piece
            piece, runs = [], 0
        piece.append((row, due))
        runs += more
    if piece:
        yield piece


def _decide(ledger: Ledger, found: Sequence[DueSchedule], by: str) -> Fired | None:
    """None: somebody else has them."""

    def work(tx: Connection) -> Fired | None:
        held = ticks.hold_undecided(tx, [row for row, _ in found])
        ours = [(row, due) for row, due in found if row.id in held]
        return carry_out(ledger, tx, ours, by) if ours else None

    try:
        fired = ledger.retry(work)
    except Exception as exc:
        if len(found) > 1 or is_disconnect(exc) or (passing(exc) and by == _HINTED):
            raise  # whoever was told of it asks again soon
        if not (isinstance(exc, ManifestUnreadable) and _is_newer(ledger, found[0][0])):
            _postpone(ledger, found[0][0], exc)
        return None
    return _committed(fired)


def _committed(fired: Fired | None) -> Fired | None:
    fp("tick.committed")
    if fired is not None:
        for ticked in fired.ticked:
            notify(ticked)
        for ended in fired.ended:
            notify(ended)
        for run, started in fired.runs:
            notify_started(run, started)
    return fired


def _is_newer(ledger: Ledger, row: ScheduleRow) -> bool:
    """Whether a newer release registered its version of the flow since the schedule was read."""
    with ledger.auto() as tx:
        return any(not now.readable for now in schedules.named(tx, [row.id]))


def _postpone(ledger: Ledger, row: ScheduleRow, exc: Exception) -> None:
    if isinstance(exc, DBAPIError):
        log.warning("tick.failed", extra={"row": row.name, "error": _error(exc)["message"]})
    else:
        log.error("tick.undecided", extra={"schedule": row.name}, exc_info=exc)
    try:
        ledger.retry(lambda tx: ticks.postpone(tx, row, _error(exc), POSTPONED))
    except DBAPIError as failed:
        if is_disconnect(failed):
            raise
        log.warning("tick.failed", extra={"row": row.name, "error": str(failed.orig)[:200]})


def _count_doubles(ledger: Ledger, ids: Sequence[ScheduleId]) -> int:
    if ids:
        ledger.retry(lambda tx: ticks.count_doubles(tx, ids))
    return len(ids)


def carry_out(ledger: Ledger, tx: Connection, found: Sequence[DueSchedule], by: str) -> Fired:
    """Write decisions, and start what they start. The caller holds the schedules.

    Raises:
        OrchestratorError: a start of one of several schedules is refused. That of a single one is a failed tick.
    """
    minded = [row.id for row, due in found if due.times and row.trigger.overlap != "allow"]
    open_ = ticks.open_runs(tx, minded) if minded else {}
    decisions = [_decision(row, due, open_.get(row.id, NOTHING_OPEN)) for row, due in found]
    recorded = ticks.decide(tx, decisions, by)
    starts: list[_Start] = [
        (row, tick.at, tick.run_id)
        for (row, _), decision in zip(found, decisions, strict=True)
        for tick in decision.ticks
        if tick.run_id is not None and (*row.id, tick.at) in recorded
    ]
    ended = _cancel(
        tx, {run_id: row for row, _, _ in starts if row.trigger.overlap == "cancel" for run_id in open_[row.id].run_ids}
    )
    unfinished = tuple(row.id for row, due in found if due.due_at is not None and due.due_at <= row.now)
    started = _start(ledger, tx, starts, by)
    ticked = _ticked(decisions, recorded, by, refused=bool(starts) and not started.started)
    fp("tick.decided")
    return started + Fired(
        decided=len(recorded), more=bool(unfinished), unfinished=unfinished, ended=ended, ticked=ticked
    )


def _ticked(
    decisions: Sequence[Decision], recorded: Collection[tuple[str, str, datetime]], by: str, *, refused: bool
) -> tuple[Ticked, ...]:
    counted: Counter[str] = Counter()
    for decision in decisions:
        for one in decision.ticks:
            if (*decision.id, one.at) in recorded:
                counted["failed" if refused and one.outcome == "started" else one.outcome] += one.count
    return tuple(Ticked(outcome, by, count) for outcome, count in counted.items())


def _decision(row: ScheduleRow, due: Due, open_: OpenRuns) -> Decision:
    timing = row.timing()
    new: list[NewTick] = []
    before = next(iter(open_.run_ids), None)
    for at, outcome in zip(due.times, rules.outcomes(due.times, row.trigger.overlap, busy=open_.busy), strict=True):
        run_id = uuid7() if outcome == "started" else None
        waits_for = before if outcome == "queued" else None
        new.append(NewTick(at, outcome, rules.due_at(timing, row.name, at), run_id=run_id, waits_for=waits_for))
        before = run_id or before
    if due.last_missed is not None:
        new.append(NewTick(due.last_missed, "missed", due.last_missed, count=due.missed))
    return Decision(row.id, new, last=due.last, cursor=due.cursor, due=due.due_at)


def _cancel(tx: Connection, runs: Mapping[UUID, ScheduleRow]) -> tuple[Ended, ...]:
    ended: list[Ended] = []
    for run_id, row in sorted(runs.items(), key=lambda item: item[0]):
        with suppress(Conflict, RunNotFound):  # it ended meanwhile
            why = "the next tick of its schedule came"
            cancel_in(tx, run_id, by=f"schedule {row.name}", reason=why, grace=CANCEL_GRACE, ended=ended)
    return tuple(ended)


def _start(ledger: Ledger, tx: Connection, starts: Sequence[_Start], by: str, trigger: str = "cron") -> Fired:
    """Start the runs. If those of a single schedule are refused, its ticks have failed, and the rest of the transaction
    stands; with several schedules nobody knows which is to blame."""
    if not starts:
        return Fired()
    try:
        started = start_run.start_in(ledger, tx, [request(row, at, run_id, trigger) for row, at, run_id in starts])
    except ManifestUnreadable:
        raise  # a newer release will start it: its tick has not failed
    except OrchestratorError as exc:
        row = starts[0][0]
        if any(other.id != row.id for other, _, _ in starts):
            raise
        ticks.fail(tx, row, [at for _, at, _ in starts], _error(exc), by)
        return Fired()
    return Fired(
        started=tuple(one.run_id for one in started),
        dispatches=tuple(dispatch for one in started for dispatch in one.dispatches),
        runs=tuple(
            (RunOf(one.run_id, row.flow, trigger), one) for one, (row, _, _) in zip(started, starts, strict=True)
        ),
    )


def request(row: ScheduleRow, at: datetime, run_id: UUID, trigger: str = "cron") -> StartRequest:
    """The start of a tick's run."""
    body = json.dumps(row.trigger.input, ensure_ascii=False)
    return StartRequest(row.flow, body, trigger=trigger, run_id=run_id, scheduled_for=at, schedule=row.trigger_key)


def _error(exc: Exception) -> dict[str, str]:
    if isinstance(exc, DBAPIError):
        return {"type": type(exc.orig).__name__, "message": str(exc.orig).partition("\n")[0][:1000]}  # without our SQL
    return {"type": type(exc).__name__, "message": getattr(exc, "message", None) or str(exc)[:1000]}


# ---- queued ticks and backfills ----


def _start_queued(ledger: Ledger, queued: Row[Any]) -> Fired | None:
    flow, key, at = queued.flow, queued.trigger_key, queued.scheduled_at

    def work(tx: Connection) -> Fired | None:
        row = schedules.find(tx, flow, key) if ticks.hold_free(tx, flow, key) else None
        if row is None or not row.live:
            return None
        open_ = ticks.open_runs(tx, [row.id])[row.id].run_ids
        if open_:
            ticks.wait_longer(tx, flow, key, at, open_[0])
            return Fired()
        run_id = uuid7()
        if not ticks.start_queued(tx, flow, key, at, run_id):
            return None
        fired = _start(ledger, tx, [(row, at, run_id)], "watchdog")
        fp("tick.decided")
        return fired + Fired(decided=1, ticked=_started_late(fired, "watchdog"))

    return _committed(ledger.retry(work))


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
        fired = _start(ledger, tx, [(row, *start) for start in starts], "operator", "backfill")
        fp("tick.decided")
        return fired + Fired(decided=len(starts), ticked=_started_late(fired, "operator"))

    return _committed(ledger.retry(work))


def _started_late(fired: Fired, by: str) -> tuple[Ticked, ...]:
    return (Ticked("started", by, len(fired.started)),) if fired.started else ()


def _held(tx: Connection, row: Row[Any]) -> bool:
    return ticks.hold_free(tx, row.flow, row.trigger_key)
