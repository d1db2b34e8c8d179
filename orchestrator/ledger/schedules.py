"""Schedules as the ledger has them: what people, tickers and the engine read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from orchestrator.core.manifest import FORMAT
from orchestrator.core.schedule_ids import schedule_name
from orchestrator.core.suggest import closest
from orchestrator.core.timing import Timing
from orchestrator.core.triggers import ScheduleDef, overridden, schedule_def
from orchestrator.errors import ScheduleNotFound
from orchestrator.ledger import definitions
from orchestrator.ledger.rows import one, run

ScheduleId = tuple[str, str]
"""Flow and key."""
_SECOND = timedelta(seconds=1)


@lru_cache(maxsize=4096)
def parsed(definition: str, expression: str | None, zone: str | None) -> tuple[ScheduleDef, Timing]:
    """A definition (JSON text), and when it fires with the override.

    Raises:
        pydantic.ValidationError: this release, or this machine's zone database, cannot read it.
    """
    trigger = schedule_def(json.loads(definition))
    return trigger, overridden(trigger, expression, zone).timing()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Defined:
    """What both kinds of row have: the code's definition, and the override of its rule."""

    flow: str
    trigger_key: str
    definition: Mapping[str, Any]
    expression: str | None
    zone: str | None
    next_tick_at: datetime | None
    due_at: datetime | None
    version: int

    @property
    def id(self) -> ScheduleId:
        """Flow and key."""
        return self.flow, self.trigger_key

    @property
    def name(self) -> str:
        """`flow/key`."""
        return schedule_name(self.flow, self.trigger_key)

    @property
    def trigger(self) -> ScheduleDef:
        """The definition of the current manifest, or of the last one that had it."""
        return parsed(json.dumps(self.definition), self.expression, self.zone)[0]

    def timing(self) -> Timing:
        """When it fires; an override of the expression is applied."""
        return parsed(json.dumps(self.definition), self.expression, self.zone)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow(_Defined):
    """A schedule. `now` is the ledger's clock when it was read. The cursor (`next_tick_at`, and `due_at` with its
    jitter) is empty while it is not live, and when it will never fire again."""

    active: bool
    overridden_at: datetime | None
    overridden_by: str | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    last_tick_at: datetime | None
    fired: int
    missed: int
    skipped: int
    doubles: int
    error: Mapping[str, Any] | None
    error_at: datetime | None
    flow_enabled: bool
    now: datetime
    open_runs: int = 0
    readable: bool = True
    """Whether this release can read the current version of its flow, where that was asked."""

    @property
    def live(self) -> bool:
        """Whether it fires at all: active, not paused, its flow enabled."""
        return self.active and self.paused_at is None and self.flow_enabled

    @property
    def is_due(self) -> bool:
        """Whether its next tick is due."""
        return self.due_at is not None and self.due_at <= self.now

    @property
    def settled_until(self) -> datetime:
        """No scheduled time up to here is decided any more: now, or the last tick when the clock went back."""
        return self.now if self.last_tick_at is None else max(self.now, self.last_tick_at)

    def next_ticks(self, count: int) -> list[datetime]:
        """The next scheduled times that are not decided; while it is not live, those that its rule has after now."""
        timing = self.timing()
        since = self.settled_until if self.next_tick_at is None or not self.live else self.next_tick_at - _SECOND
        found: list[datetime] = []
        while len(found) < count and (fire := timing.after(since)) is not None:
            found.append(fire)
            since = fire
        return found


@dataclass(frozen=True, slots=True)
class TickRow:
    """What became of a scheduled time. A `missed` row may stand for `count` of them, of which it is the last."""

    flow: str
    trigger_key: str
    scheduled_at: datetime
    kind: str
    outcome: str
    count: int
    run_id: UUID | None
    run_status: str | None
    decided_at: datetime
    lag: timedelta | None
    by: str
    backfill_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRow(_Defined):
    """What a ticker has to know of a schedule. `enabled`: active, not paused, its flow enabled."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class Lag:
    """How late the last started ticks were decided, up to 1000 of them; None if there are none."""

    count: int
    p50: timedelta | None
    p99: timedelta | None


_COLUMNS = tuple(field.name for field in fields(ScheduleRow))
_MIRRORED = tuple(field.name for field in fields(MirrorRow))


def _schedule(row: Row[Any]) -> ScheduleRow:
    return ScheduleRow(**{name: row._mapping[name] for name in _COLUMNS if name in row._mapping})


def schedules(
    tx: Connection, flow: str | None = None, after: tuple[str, str] | None = None, most: int | None = None
) -> list[ScheduleRow]:
    """Every schedule, or those of a flow, also those that are not active any more; by name; `most` of them, behind the
    one of the flow and key `after`."""
    last_flow, last_key = after or (None, None)
    page = {"after_flow": last_flow, "after_key": last_key, "most": most}
    return [_schedule(row) for row in run(tx, "shown_schedules", flow=flow, key=None, **page)]


def schedule(tx: Connection, flow: str, key: str) -> ScheduleRow:
    """
    Raises:
        FlowNotFound, ScheduleNotFound: there is none, with the nearest name that is.
    """
    row = one(tx, "shown_schedules", flow=flow, key=key, after_flow=None, after_key=None, most=None)
    if row is None:
        raise unknown_schedule(tx, flow, key)
    return _schedule(row)


def unknown_schedule(tx: Connection, flow: str, key: str) -> Exception:
    """The error for a schedule that is not in the ledger, with the nearest one that is."""
    if flow not in definitions.names(tx):
        return definitions.unknown_flow(tx, flow)
    return no_schedule(flow, key, [row.trigger_key for row in run(tx, "schedule_keys", flow=flow)])


def no_schedule(flow: str, key: str, keys: Sequence[str]) -> ScheduleNotFound:
    """The flow has schedules of these keys only."""
    near = closest(key, keys)
    if near is not None:
        fix = f"did you mean `{near}`?"
    elif keys:
        fix = f"use one of {', '.join(f'`{each}`' for each in islice(keys, 10))}."
    else:
        fix = "the flow has no schedule; see `orchestrator schedule ls`."
    return ScheduleNotFound(f"Flow {flow} has no schedule {key!r}. Fix: {fix}", flow=flow, key=key)


def ticks(tx: Connection, flow: str, key: str, limit: int = 50) -> list[TickRow]:
    """The last ticks by scheduled time, newest first."""
    return [TickRow(**row._mapping) for row in run(tx, "shown_ticks", flow=flow, key=key, limit=limit)]


def mirror(tx: Connection, since_version: int = 0) -> Sequence[MirrorRow]:
    """Schedules that changed at `since_version` or later (0: all), those that are not enabled too. Rows may come again.

    Ask `mirror_version` *before*, and give that as `since_version` next time: then no change is missed, however their
    transactions overlap. The largest version among the rows does not promise that.
    """
    rows = run(tx, "mirrored_schedules", since=since_version)
    return [MirrorRow(**{name: row._mapping[name] for name in _MIRRORED}) for row in rows]


def mirror_version(tx: Connection) -> int:
    """The version below which every change is committed and visible."""
    row = one(tx, "mirror_version")
    assert row is not None
    return int(row.version)


def lag(tx: Connection, flow: str | None = None, key: str | None = None) -> Lag:
    """How late the last 1000 started ticks were decided: of all, of a flow, or of one schedule."""
    row = one(tx, "lag_of_all") if flow is None else one(tx, "lag_of", flow=flow, key=key)
    assert row is not None
    return Lag(row.ticks, row.p50, row.p99)


# ---- for the engine ----


def due(tx: Connection, late: timedelta, page: int) -> list[ScheduleRow]:
    """Schedules whose next tick is due, the longest first."""
    return [_schedule(row) for row in run(tx, "due_schedules", late=late, format=FORMAT, page=page)]


def left_to_newer(tx: Connection, late: timedelta) -> bool:
    """Whether schedules, queued ticks or backfills wait for a newer release."""
    return bool(run(tx, "left_to_newer", late=late, format=FORMAT).scalar_one())


def next_tick(tx: Connection) -> float | None:
    """Seconds until the next tick is due."""
    row = one(tx, "next_tick")
    return None if row is None or row.seconds is None else float(row.seconds)


def find(tx: Connection, flow: str, key: str) -> ScheduleRow | None:
    """A schedule, without its open runs; the caller may hold it."""
    return next(iter(named(tx, [(flow, key)])), None)


def named(tx: Connection, ids: Iterable[ScheduleId]) -> list[ScheduleRow]:
    """Those of these schedules that there are, without their open runs, in any order."""
    flows, keys = columns(ids)
    return [_schedule(row) for row in run(tx, "named_schedules", flows=flows, keys=keys, format=FORMAT)]


def columns(ids: Iterable[ScheduleId]) -> tuple[list[str], list[str]]:
    """Flows and keys, as the statements that take many schedules want them."""
    pairs = list(ids)
    return [flow for flow, _ in pairs], [key for _, key in pairs]


def of_flow(tx: Connection, flow: str) -> list[ScheduleRow]:
    """The schedules of a flow in the order of their keys, without their open runs; the caller may hold them."""
    return [_schedule(row) for row in run(tx, "schedules_of", flow=flow)]


def scheduled_for(tx: Connection, run_id: UUID) -> datetime | None:
    """The time a run's schedule meant; None when no schedule started it."""
    row = one(tx, "scheduled_for", run_id=run_id)
    return None if row is None else row.scheduled_for
