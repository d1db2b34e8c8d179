"""Writing ticks, cursors and backfills. The caller holds the schedule (`hold…`): nobody else writes it meanwhile."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.manifest import FORMAT
from orchestrator.core.schedule_ids import schedule_id
from orchestrator.core.timing import Timing
from orchestrator.ledger import graph
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.schedules import ScheduleId, ScheduleRow, columns, parsed


@dataclass(frozen=True, slots=True)
class NewTick:
    """A tick row to write."""

    at: datetime
    outcome: str
    due: datetime
    count: int = 1
    run_id: UUID | None = None
    waits_for: UUID | None = None

    def as_json(self) -> dict[str, Any]:
        """An element of the statement's `ticks`."""
        return {
            "at": self.at.isoformat(),
            "outcome": self.outcome,
            "due": self.due.isoformat(),
            "count": self.count,
            "run_id": self.run_id and str(self.run_id),
            "waits_for": self.waits_for and str(self.waits_for),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of the due ticks of a schedule: their rows, the last scheduled time that is decided, the next that is
    not, and when that is due."""

    id: ScheduleId
    ticks: Sequence[NewTick]
    last: datetime
    cursor: datetime | None
    due: datetime | None

    def as_json(self) -> dict[str, Any]:
        """An element of the statement's `decisions`."""
        flow, key = self.id
        return {
            "flow": flow,
            "trigger_key": key,
            "ticks": [tick.as_json() for tick in self.ticks],
            "last": self.last.isoformat(),
            "cursor": self.cursor and self.cursor.isoformat(),
            "due": self.due and self.due.isoformat(),
            "event_id": str(schedule_id(flow, key)),
        }


@dataclass(frozen=True, slots=True)
class OpenRuns:
    """A schedule's open runs, the newest first; and whether a tick is queued behind one."""

    run_ids: tuple[UUID, ...]
    queued: bool

    @property
    def busy(self) -> bool:
        """Whether the overlap policy has any of them to consider."""
        return bool(self.run_ids) or self.queued


NOTHING_OPEN: Final = OpenRuns((), False)


# ---- holding ----


def hold_undecided(tx: Connection, rows: Sequence[ScheduleRow]) -> set[ScheduleId]:
    """Hold those schedules that nobody holds and whose cursor is where `rows` have it. It waits for none."""
    flows, keys = columns(row.id for row in rows)
    cursors, versions = [row.next_tick_at for row in rows], [row.version for row in rows]
    found = run(tx, "hold_undecided", flows=flows, keys=keys, cursors=cursors, versions=versions)
    return {(row.flow, row.trigger_key) for row in found}


def hold(tx: Connection, flow: str, key: str) -> bool:
    """Wait for the schedule; False when there is none."""
    return one(tx, "hold_schedule", flow=flow, key=key) is not None


def hold_free(tx: Connection, flow: str, key: str) -> bool:
    """Hold the schedule if nobody does and the current manifest has it."""
    return one(tx, "hold_free_schedule", flow=flow, key=key) is not None


def hold_all(tx: Connection, flow: str) -> None:
    """Wait for every schedule of a flow."""
    run(tx, "hold_schedules_of", flow=flow)


# ---- ticks ----


def open_runs(tx: Connection, ids: Sequence[ScheduleId]) -> dict[ScheduleId, OpenRuns]:
    """What each of these schedules has under way."""
    found: dict[ScheduleId, OpenRuns] = dict.fromkeys(ids, NOTHING_OPEN)
    flows, keys = columns(ids)
    for row in run(tx, "open_runs", flows=flows, keys=keys):
        before = found[row.flow, row.trigger_key].run_ids
        run_ids = before if row.run_id is None else (*before, row.run_id)
        found[row.flow, row.trigger_key] = OpenRuns(run_ids, row.queued)
    return found


def decide(tx: Connection, decisions: Sequence[Decision], by: str) -> set[tuple[str, str, datetime]]:
    """Write the ticks and move the cursors, in one round trip; flow, key and time of those that had no row before."""
    bodies = [json.dumps(decision.as_json()) for decision in decisions]
    return {(row.flow, row.trigger_key, row.scheduled_at) for row in run(tx, "decide", by=by, decisions=bodies)}


def fail(tx: Connection, row: ScheduleRow, times: Sequence[datetime], error: Mapping[str, Any], by: str) -> None:
    """Ticks that this transaction started could not start."""
    run(
        tx,
        "fail_ticks",
        flow=row.flow,
        key=row.trigger_key,
        by=by,
        times=list(times),
        error=json.dumps(error),
        is_new=row.error != error,
        event_id=schedule_id(row.flow, row.trigger_key),
    )


def postpone(tx: Connection, row: ScheduleRow, error: Mapping[str, Any], delay: timedelta) -> None:
    """Put off a tick that cannot be decided."""
    run(
        tx,
        "postpone",
        flow=row.flow,
        key=row.trigger_key,
        cursor=row.next_tick_at,
        error=json.dumps(error),
        delay=delay,
    )


def count_doubles(tx: Connection, ids: Sequence[ScheduleId]) -> None:
    """A tick of each of these schedules came again."""
    flows, keys = columns(ids)
    run(tx, "count_doubles", flows=flows, keys=keys)


def any_waits(tx: Connection) -> bool:
    """Whether a tick is queued or a backfill open."""
    return bool(run(tx, "any_waits").scalar_one())


def startable(tx: Connection, page: int) -> Sequence[Row[Any]]:
    """Queued ticks whose run before has ended."""
    return run(tx, "startable_ticks", page=page, format=FORMAT).all()


def start_queued(tx: Connection, flow: str, key: str, at: datetime, run_id: UUID) -> bool:
    """A queued tick starts; False when it is not queued any more."""
    return one(tx, "start_queued", flow=flow, key=key, at=at, run_id=run_id) is not None


def wait_longer(tx: Connection, flow: str, key: str, at: datetime, run_id: UUID) -> None:
    """A queued tick comes after this run too."""
    run(tx, "wait_longer", flow=flow, key=key, at=at, run_id=run_id)


def skip_queued(tx: Connection, flow: str, key: str) -> None:
    """Nothing that is queued starts."""
    run(tx, "skip_queued", flow=flow, key=key)


def add_manual(tx: Connection, flow: str, key: str, at: datetime, run_id: UUID) -> bool:
    """A run that an operator starts; False when the time is taken."""
    return one(tx, "add_tick", flow=flow, key=key, at=at, run_id=run_id) is not None


# ---- backfills ----


def open_backfills(tx: Connection, page: int) -> Sequence[Row[Any]]:
    """Backfills that have room for a run, or have ended."""
    return run(tx, "open_backfills", page=page, format=FORMAT).all()


def backfill(tx: Connection, id: UUID) -> Row[Any] | None:
    """An open backfill, held: max_parallel, reverse, its open runs."""
    return one(tx, "backfill", id=id)


def start_pending(
    tx: Connection, id: UUID, *, reverse: bool, running: Sequence[UUID], run_ids: Sequence[UUID]
) -> list[tuple[datetime, UUID]]:
    """The next ticks start, as many as there are ids: scheduled time and run id. With none left the backfill ends."""
    rows = run(tx, "start_pending", id=id, reverse=reverse, running=list(running), run_ids=list(run_ids))
    return sorted(((row.scheduled_at, row.run_id) for row in rows), reverse=reverse)


def taken(tx: Connection, flow: str, key: str, since: datetime, until: datetime) -> set[datetime]:
    """Times of the span that have a run or will have one."""
    rows = run(tx, "taken_ticks", flow=flow, key=key, since=since, until=until)
    return {row.scheduled_at for row in rows}


@dataclass(frozen=True, slots=True)
class Span:
    """What is to be made up for: the times in [since, until), the newest first if `reverse`, so many runs at once."""

    since: datetime
    until: datetime
    max_parallel: int = 1
    reverse: bool = False


def add_backfill(
    tx: Connection, id: UUID, schedule: ScheduleId, span: Span, times: Sequence[datetime], *, by: str
) -> None:
    """A backfill with its pending ticks."""
    flow, key = schedule
    run(tx, "add_backfill", id=id, flow=flow, key=key, by=by, **asdict(span))
    run(tx, "add_pending", id=id, flow=flow, key=key, by="operator", times=list(times))


def find_backfill(tx: Connection, id: UUID) -> Row[Any] | None:
    """Flow, key and end of a backfill."""
    return one(tx, "find_backfill", id=id)


def end_backfill(tx: Connection, id: UUID, by: str) -> int:
    """No more of its ticks start; how many were taken back."""
    row = one(tx, "end_backfill", id=id, by=by)
    return int(row.cancelled) if row else 0


def backfills_of(tx: Connection, flow: str, key: str) -> list[UUID]:
    """The open backfills of a schedule."""
    return [row.id for row in run(tx, "backfills_of", flow=flow, key=key)]


# ---- the schedule itself ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What registration, operators and switches write of a schedule. `definition` is JSON text."""

    flow: str
    key: str
    active: bool
    definition: str
    expression: str | None = None
    zone: str | None = None
    overridden_at: datetime | None = None
    overridden_by: str | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    cursor: datetime | None = None
    due: datetime | None = None

    @classmethod
    def of(cls, row: ScheduleRow) -> "Stored":
        """As it is."""
        return cls(
            flow=row.flow,
            key=row.trigger_key,
            active=row.active,
            definition=json.dumps(row.definition, ensure_ascii=False),
            expression=row.expression,
            zone=row.zone,
            overridden_at=row.overridden_at,
            overridden_by=row.overridden_by,
            paused_at=row.paused_at,
            paused_by=row.paused_by,
            pause_reason=row.pause_reason,
            cursor=row.next_tick_at,
            due=row.due_at,
        )

    def timing(self) -> Timing:
        """When it fires."""
        return parsed(self.definition, self.expression, self.zone)[1]


_STORED = tuple(field.name for field in fields(Stored))


def put(tx: Connection, stored: Stored) -> None:
    """Write it, with a new version."""
    run(tx, "put_schedule", **{name: getattr(stored, name) for name in _STORED})


def event(tx: Connection, flow: str, key: str, type: str, **facts: Any) -> None:
    """Append to the schedule's audit."""
    graph.event(tx, schedule_id(flow, key), f"schedule.{type}", facts=facts)
