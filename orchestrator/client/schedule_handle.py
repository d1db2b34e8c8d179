"""One schedule, as a program sees it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from orchestrator.client.access import Access
from orchestrator.client.given import user
from orchestrator.client.groups.group import By
from orchestrator.client.run_handle import RunHandle
from orchestrator.core import values
from orchestrator.core.access import Actor
from orchestrator.core.facts import Explanation
from orchestrator.core.schedule_ids import schedule_id
from orchestrator.core.timing.notes import Fire, preview, zone_of
from orchestrator.engine.schedules import explain_schedule
from orchestrator.engine.schedules import operate as acts
from orchestrator.engine.schedules.operate import Backfill
from orchestrator.errors import ScheduleNotFound, UsageError
from orchestrator.ledger import definitions, reads, schedules
from orchestrator.ledger.reads.rows import EventRow
from orchestrator.ledger.schedules import Lag, ScheduleRow, TickRow
from orchestrator.ledger.ticks import Span
from orchestrator.ledger.tx import Ledger

Moment = datetime | date | str
"""An aware datetime, a day, or ISO 8601; without an offset it is read on the wall of the schedule's zone."""
MOST: Final = 10_000
"""The longest preview or history."""


class ScheduleHandle:
    """One schedule of a flow. Everything that changes it is recorded with `by`, else with your login."""

    def __init__(self, client: Access, flow: str, key: str) -> None:
        self.client = client
        self.flow = flow
        self.key = key

    def __repr__(self) -> str:
        return f"<schedule {self.flow}/{self.key}>"

    def row(self) -> ScheduleRow:
        """Everything the ledger says of it: rule, override, pause, cursor, counters."""
        return self.client.call(_row, self.flow, self.key)

    def lag(self) -> Lag:
        """How late its last 1000 ticks were."""
        return self.client.call(_lag, self.flow, self.key)

    def explain(self) -> Explanation:
        """Why it has not fired, when it will, and the command that helps."""
        settings = self.client.settings
        return self.client.call(
            explain_schedule.explain,
            self.flow,
            self.key,
            worker_ttl=settings.worker_ttl,
            watchdog=settings.watchdog_interval + settings.tick_grace,
        )

    def preview(self, count: int = 10) -> list[Fire]:
        """The next fires of its rule, on the wall of its zone and in UTC, with what a clock change does. A pause is not
        looked at.

        Raises:
            UsageError: `count` is not between 1 and 10,000.
        """
        _within(count)
        row = self.row()
        return preview(explain_schedule.readable(row), row.settled_until, count, row.name)

    def history(self, limit: int = 50) -> list[TickRow]:
        """What became of its ticks, newest first.

        Raises:
            UsageError: `limit` is not between 1 and 10,000.
        """
        _within(limit)
        return self.client.call(_ticks, self.flow, self.key, limit)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """Who changed it and when, and what it missed, in order, from the event after `after`."""
        self.row()
        return self.client.call(reads.events.of_run, schedule_id(self.flow, self.key), after, limit)

    def pause(self, reason: str = "", *, by: By = None) -> None:
        """Fire no more, until it is resumed. Survives restarts and deploys.

        Raises:
            UsageError: the reason cannot be stored.
        """
        self.client.call(acts.pause, self.flow, self.key, by=_actor(by), reason=_text("reason", reason) or None)

    def resume(self, *, by: By = None) -> None:
        """Fire again, from the first time after now; what a pause missed is not made up for."""
        self.client.call(acts.resume, self.flow, self.key, by=_actor(by))

    def trigger(self, *, by: str | None = None) -> RunHandle[Any]:
        """Start a run with the schedule's input now, whatever its rule, pause and overlap say.

        Raises:
            FlowDisabled: nothing was started.
        """
        with self._reading():
            started = self.client.call_once(acts.trigger, self.flow, self.key, by=_who(by))
        self.client.publish(started.dispatches)
        return RunHandle(self.client, started.run_id, started=started)

    def set_cron(self, expression: str, *, zone: str | None = None, by: By = None) -> None:
        """Another expression than the code's, until `reset`. Without a zone it is read in the one it has now.

        Raises:
            ScheduleInvalid: the expression or the zone is wrong; nothing was changed.
        """
        with self._reading():
            due = self.client.call(acts.set_cron, self.flow, self.key, expression, zone=zone, by=_actor(by))
        self.client.publish(due)

    def reset(self, *, by: By = None) -> None:
        """Go back to the rule of the code."""
        with self._reading():
            due = self.client.call(acts.reset, self.flow, self.key, by=_actor(by))
        self.client.publish(due)

    def backfill(
        self,
        since: Moment,
        until: Moment,
        *,
        max_parallel: int = 1,
        reverse: bool = False,
        dry_run: bool = False,
        by: str | None = None,
    ) -> Backfill:
        """A run for every time in [since, until) that has none, oldest first, at most `max_parallel` open at once;
        keepers start them.

        Raises:
            UsageError: the span is empty, in the future, or holds more than 10,000 times; nothing was started.
        """
        wall = self.zone()
        return self.client.call_once(
            acts.backfill,
            self.flow,
            self.key,
            Span(moment(since, wall), moment(until, wall), max_parallel, reverse),
            by=_who(by),
            dry_run=dry_run,
        )

    def zone(self) -> str:
        """The zone on whose wall its rule is read; UTC for an interval.

        Raises:
            ScheduleInvalid: this machine cannot read the rule.
        """
        return zone(self.row())

    def cancel_backfill(self, backfill_id: UUID, *, by: str | None = None) -> int:
        """Start no more runs of a backfill; how many were taken back. Those that are open go on.

        Raises:
            ScheduleNotFound: no such backfill.
        """
        return self.client.call(acts.cancel_backfill, self.flow, self.key, backfill_id, by=_who(by))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say in our words why this machine cannot read a rule."""
        try:
            yield
        except ValidationError:
            explain_schedule.readable(self.row())
            raise


def _actor(by: By) -> Actor:
    return by if isinstance(by, Actor) else Actor(_who(by))


def _who(by: str | None) -> str:
    return _text("by", by or user())


def _text(name: str, value: str) -> str:
    """
    Raises:
        UsageError: PostgreSQL cannot store it.
    """
    refused = values.refusal(value)
    if refused is not None:
        raise UsageError(f"`{name}` is {refused.problem}, which cannot be stored. Fix: remove it.")
    return value


def moment(given: Moment, zone: str) -> datetime:
    """An aware UTC datetime; without an offset `given` is what the wall of `zone` shows, the first time if twice.

    Raises:
        UsageError: it is not a date and time, or the wall clock never shows it.
    """
    at = given if isinstance(given, datetime) else _parsed(str(given))
    try:
        local = at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(zone))
        found = local.astimezone(UTC)
        shown = found.astimezone(local.tzinfo)
    except OverflowError:
        raise _no_moment(str(at)) from None
    if shown.replace(tzinfo=None) != at.replace(tzinfo=None):
        raise UsageError(
            f"{at.isoformat(sep=' ')} does not exist in {zone}: the clock is put forward over it. "
            f"Fix: give it with an offset, such as {found:%Y-%m-%dT%H:%M}Z."
        )
    return found


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise _no_moment(text) from None


def _no_moment(text: str) -> UsageError:
    return UsageError(
        f"{text[:60]!r} is not a date and time. Fix: write 2026-11-01, 2026-11-01T07:00 (read in the schedule's zone) "
        "or 2026-11-01T07:00Z."
    )


def find(ledger: Ledger, name: str, key: str | None) -> tuple[str, str]:
    """The flow and the key of a schedule: `flow/key`, both, or the flow alone when it has only one.

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
        UsageError: the flow has several, and no key says which.
    """
    flow, key = named(name, key)
    with ledger.auto() as tx:
        if key is not None:
            row = schedules.schedule(tx, flow, key)
            return row.flow, row.trigger_key
        rows = schedules.schedules(tx, flow)
        if not rows and flow not in definitions.names(tx):
            raise definitions.unknown_flow(tx, flow)
    return flow, only(flow, rows)


def named(name: str, key: str | None) -> tuple[str, str | None]:
    """The flow and the key of what was given as `flow/key`, as both, or as the flow alone."""
    flow, slash, given = name.partition("/")
    return flow, given if slash and key is None else key


def only(flow: str, rows: Sequence[ScheduleRow]) -> str:
    """The key of a flow's only schedule, or of its only one that the code has.

    Raises:
        ScheduleNotFound, UsageError: it has none, or several.
    """
    rows = [row for row in rows if row.active] or rows
    if len(rows) == 1:
        return rows[0].trigger_key
    if not rows:
        raise ScheduleNotFound(
            f"Flow {flow} has no schedule. Fix: add one in its code, `@flow(schedules=[…])`, and restart a worker.",
            flow=flow,
        )
    names = ", ".join(f"{flow}/{row.trigger_key}" for row in rows)
    raise UsageError(f"Flow {flow} has {len(rows)} schedules: {names}. Fix: name one of them.", flow=flow)


def listed(
    ledger: Ledger, flow: str | None, after: tuple[str, str] | None = None, most: int | None = None
) -> list[ScheduleRow]:
    """The schedules of a flow, or of all; `most` of them, behind the one of the flow and key `after`.

    Raises:
        FlowNotFound: no such flow.
    """
    with ledger.auto() as tx:
        rows = schedules.schedules(tx, flow, after, most)
        if not rows and flow is not None and flow not in definitions.names(tx):
            raise definitions.unknown_flow(tx, flow)
    return rows


def zone(row: ScheduleRow) -> str:
    """See `ScheduleHandle.zone`."""
    return zone_of(explain_schedule.readable(row).rule)


def _row(ledger: Ledger, flow: str, key: str) -> ScheduleRow:
    with ledger.auto() as tx:
        return schedules.schedule(tx, flow, key)


def _ticks(ledger: Ledger, flow: str, key: str, limit: int) -> list[TickRow]:
    with ledger.auto() as tx:
        schedules.schedule(tx, flow, key)
        return schedules.ticks(tx, flow, key, limit=limit)


def _lag(ledger: Ledger, flow: str, key: str) -> Lag:
    with ledger.auto() as tx:
        return schedules.lag(tx, flow, key)


def _within(count: int) -> None:
    if not 1 <= count <= MOST:
        raise UsageError(f"{count} were asked for. Fix: ask for 1 to {MOST}.")
