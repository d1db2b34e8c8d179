"""Schedules: what is stored of them, and what is asked of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection

if TYPE_CHECKING:
    from orchestrator.core.manifest import CronTrigger, EveryTrigger
    from orchestrator.core.timing.rules import Timing


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule as the ledger has it. `now` is the ledger's clock when it was read."""

    flow: str
    trigger_key: str
    active: bool
    definition: Mapping[str, Any]
    expression: str | None
    zone: str | None
    overridden_at: datetime | None
    overridden_by: str | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    last_tick_at: datetime | None
    next_tick_at: datetime | None
    due_at: datetime | None
    version: int
    fired: int
    missed: int
    skipped: int
    doubles: int
    error: Mapping[str, Any] | None
    error_at: datetime | None
    flow_enabled: bool
    now: datetime
    open_runs: int = 0

    @property
    def name(self) -> str:
        """`flow/key`."""
        raise NotImplementedError

    @property
    def trigger(self) -> "CronTrigger | EveryTrigger":
        """The definition of the current manifest, or of the last one that had it."""
        raise NotImplementedError

    @property
    def live(self) -> bool:
        """Whether it fires at all: active, not paused, its flow enabled."""
        return self.active and self.paused_at is None and self.flow_enabled

    def timing(self) -> "Timing":
        """When it fires; an override of the expression is applied."""
        raise NotImplementedError

    def next_ticks(self, count: int) -> list[datetime]:
        """The next scheduled times after now that are not decided; those of the rule, also while it is paused."""
        raise NotImplementedError


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


@dataclass(frozen=True, slots=True)
class MirrorRow:
    """What RedBeat has to know of a schedule. `enabled`: active, not paused, its flow enabled."""

    flow: str
    trigger_key: str
    definition: Mapping[str, Any]
    expression: str | None
    zone: str | None
    next_tick_at: datetime | None
    due_at: datetime | None
    version: int
    enabled: bool

    @property
    def name(self) -> str:
        """`flow/key`."""
        raise NotImplementedError

    def timing(self) -> "Timing":
        """When it fires; an override of the expression is applied."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Lag:
    """How late the last started ticks were, up to 1000 of them; None without any."""

    count: int
    p50: timedelta | None
    p99: timedelta | None


def schedules(tx: Connection, flow: str | None = None) -> list[ScheduleRow]:
    """Every schedule, or those of a flow, also those that are not active any more; by name."""
    raise NotImplementedError


def schedule(tx: Connection, flow: str, key: str) -> ScheduleRow:
    """
    Raises:
        FlowNotFound, ScheduleNotFound: there is none, with the nearest name that is.
    """
    raise NotImplementedError


def ticks(tx: Connection, flow: str, key: str, limit: int = 50) -> list[TickRow]:
    """The last ticks by scheduled time, newest first."""
    raise NotImplementedError


def mirror(tx: Connection, since_version: int = 0) -> Sequence[MirrorRow]:
    """Schedules that changed at `since_version` or later (0: all). Rows may come again: a change is a version, not a time.

    Read `mirror_version` *before*, and give it as `since_version` next time: then no change is missed, also of
    transactions that commit out of order. (The largest version among the rows does not promise that.)
    """
    raise NotImplementedError


def mirror_version(tx: Connection) -> int:
    """The version below which every change is committed and visible."""
    raise NotImplementedError


def lag(tx: Connection, flow: str | None = None, key: str | None = None) -> Lag:
    """How late the last 1000 started ticks were: of all, of a flow, or of one schedule."""
    raise NotImplementedError
