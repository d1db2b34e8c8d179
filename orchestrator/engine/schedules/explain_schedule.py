"""Why a schedule has not fired, and when it will: one sentence, and the command that helps."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from orchestrator.core.durations import format_duration
from orchestrator.core.facts import Explanation
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.core.timing import Timing
from orchestrator.core.timing.notes import zone_of
from orchestrator.errors import ScheduleInvalid
from orchestrator.ledger import reads, schedules
from orchestrator.ledger.schedules import ScheduleRow, TickRow
from orchestrator.ledger.tx import Ledger

_LATE: Final = timedelta(seconds=1)
"""A tick that has been due for less than this is simply about to be decided."""
_LOOK_BACK: Final = 50


def explain(
    ledger: Ledger,
    flow: str,
    key: str,
    *,
    worker_ttl: timedelta = reads.workers.TTL,
    watchdog: timedelta = timedelta(seconds=10),
) -> Explanation:
    """What the schedule did last, what stands in its way, and its next fire. `watchdog` is the longest that a tick
    waits for a keeper when no beat runs.

    Raises:
        FlowNotFound, ScheduleNotFound: there is none.
    """
    with ledger.auto() as tx:
        row = schedules.schedule(tx, flow, key)
        ticks = schedules.ticks(tx, flow, key, limit=_LOOK_BACK)
    try:
        timing = readable(row)
    except ScheduleInvalid as exc:
        return Explanation(exc.message, f"orchestrator schedule history {row.name}")
    return _Story(ledger, row, timing, ticks, worker_ttl, watchdog).explanation()


def readable(row: ScheduleRow) -> Timing:
    """When the schedule fires, an override applied.

    Raises:
        ScheduleInvalid: this process cannot read it: another release wrote it, or this machine's zones lack its zone.
    """
    try:
        return row.timing()
    except ScheduleInvalid as exc:
        reason = exc.message
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        reason = getattr(error.get("ctx", {}).get("error"), "message", error["msg"])
    raise ScheduleInvalid(
        f"Schedule {row.name} does not fire where it cannot be read, as here: {reason.partition(' Fix: ')[0]} "
        "Fix: install the release that registered it, and the newest `tzdata`.",
        place=row.name,
    )


class _Story:
    def __init__(
        self,
        ledger: Ledger,
        row: ScheduleRow,
        timing: Timing,
        ticks: list[TickRow],
        worker_ttl: timedelta,
        watchdog: timedelta,
    ) -> None:
        self.ledger, self.row, self.timing, self.ticks = ledger, row, timing, ticks
        self.worker_ttl, self.watchdog = worker_ttl, watchdog
        self.now, self.name = row.now, row.name
        self.zone = zone_of(timing.rule)

    def explanation(self) -> Explanation:
        row = self.row
        if not row.active:
            return Explanation(
                f"Schedule {self.name} never fires: the current version of flow {row.flow} does not have it"
                f"{self._last_fired(', it last fired ')}.",
                f"orchestrator flow show {row.flow}",
            )
        if not row.flow_enabled:
            return self._disabled()
        if row.paused_at is not None:
            return self._paused()
        if row.next_tick_at is None:
            return self._over()
        if row.due_at is not None and self.now - row.due_at > _LATE:
            return self._overdue(row.due_at)
        return self._waits(row.next_tick_at)

    def _disabled(self) -> Explanation:
        flow = reads.flows.get(self.ledger, self.row.flow)
        by = f" by {flow.switched_by}" if flow.switched_by else ""
        why = f" ({flow.switch_reason})" if flow.switch_reason else ""
        return Explanation(
            f"Schedule {self.name} does not fire, because flow {flow.name} was disabled{by}{why}; once it is enabled "
            f"it fires {self._first_after_now()}.",
            f"orchestrator flow enable {flow.name}",
        )

    def _paused(self) -> Explanation:
        row = self.row
        assert row.paused_at is not None
        why = f" ({row.pause_reason})" if row.pause_reason else ""
        who = f"{row.paused_by} paused it {_length(self.now - row.paused_at)} ago{why}"
        if row.paused_by == "code":
            who = "its code says `paused`"
        return Explanation(
            f"Schedule {self.name} does not fire, because {who}; once it is resumed it fires "
            f"{self._first_after_now()}, and what it missed is not made up for.",
            f"orchestrator schedule resume {self.name}",
        )

    def _over(self) -> Explanation:
        end = self.timing.end
        why = f"it ended {self._at(end)}" if end is not None else "its rule names no time after its last one"
        return Explanation(
            f"Schedule {self.name} will not fire again: {why}{self._last_fired('; it last fired ')}.",
            f"orchestrator schedule history {self.name}",
        )

    def _overdue(self, due: datetime) -> Explanation:
        """A tick is due and nobody has decided it."""
        since = (
            f"Schedule {self.name} has been due since {self._at(due)}, {_length(self.now - due)} ago, "
            "and has not fired: "
        )
        live = [worker for worker in reads.workers.every(self.ledger, self.worker_ttl) if worker.live]
        if not live:
            return Explanation(
                f"{since}no worker is live, and workers decide ticks; the first one that starts decides it.",
                "orchestrator worker --flows YOUR_MODULE",
            )
        if self.now - due <= 2 * self.watchdog:
            return Explanation(
                f"{since}the beat did not announce it in time; "
                f"a worker decides it within {format_duration(self.watchdog)}.",
                f"orchestrator schedule history {self.name}",
            )
        many = len(live) != 1
        return Explanation(
            f"{since}{len(live)} {'workers are' if many else 'worker is'} live and {'have' if many else 'has'} not "
            "decided it, although a worker's watchdog looks every few seconds; their logs say why.",
            "orchestrator doctor",
        )

    def _waits(self, at: datetime) -> Explanation:
        before, command = self._before()
        due = self.row.due_at or at
        if at > self.now:
            by_jitter = f", {_length(due - at)} later by its jitter" if self.timing.jitter else ""
            then = f"it fires next {self._at(at)}, {self._in(at)}{by_jitter}"
        elif self.row.error is not None:
            then = f"it is tried again {self._in(due)}"
        else:
            then = f"it fires {self._in(due)} for {self._at(at)}{', by its jitter' if due > self.now else ''}"
        return Explanation(f"Schedule {self.name} {before}; {then}.", command)

    def _before(self) -> tuple[str, str]:
        """What became of the last tick."""
        history = f"orchestrator schedule history {self.name}"
        if self.row.error is not None:  # the next tick that starts clears it
            error = self.row.error
            why = f"{error.get('type', 'an error')}: {error.get('message', 'unknown')}"
            return f"did not fire at its last time, because {why}", history
        waiting = next((tick for tick in self.ticks if tick.outcome == "queued" and tick.kind == "cron"), None)
        if waiting is not None:
            run = self._open_run()
            holder = f"run {run} is open" if run else "the run before it was open"
            command = f"orchestrator run explain {run}" if run else history
            return f"holds the tick of {self._at(waiting.scheduled_at)} back, because {holder}", command
        last = self._last_tick()
        if last is None:
            start = self.timing.start
            if start is not None and start > self.now:
                return (
                    f"has not fired yet, because it starts {self._at(start)}",
                    f"orchestrator schedule preview {self.name}",
                )
            return "has not fired yet, because no time of it has come", f"orchestrator schedule preview {self.name}"
        at = self._at(last.scheduled_at)
        match last.outcome:
            case "skipped":
                return f"skipped {at}, because an earlier run of it was open", history
            case "missed":
                count = f" and {last.count - 1} before it" if last.count > 1 else ""
                why = f"nobody decided it in time, and `missed` is {self.row.trigger.missed}"
                return f"missed {at}{count}, because {why}", history
            case "failed":
                return f"failed at {at}", history
        late = f", {_length(last.lag)} late" if last.lag is not None else ""
        return f"fired last for {at}{late}{self._as_run(last)}", self._command_for(last)

    def _last_tick(self) -> TickRow | None:
        own = (tick for tick in self.ticks if tick.kind == "cron")
        return max(own, key=lambda tick: tick.scheduled_at, default=None)

    def _last_fired(self, words: str) -> str:
        fired = [tick for tick in self.ticks if tick.kind == "cron" and tick.outcome == "started"]
        return f"{words}{self._at(max(tick.scheduled_at for tick in fired))}" if fired else ""

    def _open_run(self) -> UUID | None:
        return next((tick.run_id for tick in self.ticks if tick.run_status not in {None, *FINAL_RUN}), None)

    def _as_run(self, tick: TickRow) -> str:
        return "" if tick.run_status is None else f" as run {tick.run_id} ({tick.run_status})"

    def _command_for(self, tick: TickRow) -> str:
        if tick.run_status is None:  # there is none, or it is so old that it was removed
            return f"orchestrator schedule history {self.name}"
        verb = "show" if tick.run_status == RunStatus.SUCCEEDED else "explain"
        return f"orchestrator run {verb} {tick.run_id}"

    def _first_after_now(self) -> str:
        """Resumed and enabled schedules go on with the first time after that moment."""
        at = self.timing.after(self.now)
        return "no more: its rule names no later time" if at is None else f"at its next time, {self._at(at)}"

    def _at(self, at: datetime) -> str:
        """`2026-03-29 07:00 Europe/Paris (05:00 UTC)`."""
        return spoken(at, self.zone)

    def _in(self, at: datetime) -> str:
        return "now" if at <= self.now else f"in {_length(at - self.now)}"


def spoken(at: datetime, zone: str) -> str:
    """A moment as people of that zone say it, and in UTC."""
    utc, wall = at.astimezone(UTC), at.astimezone(ZoneInfo(zone))
    form = "%H:%M:%S" if utc.second else "%H:%M"
    if zone == "UTC":
        return utc.strftime(f"%Y-%m-%d {form} UTC")
    day = "" if utc.date() == wall.date() else f"{utc:%Y-%m-%d} "
    return f"{wall.strftime(f'%Y-%m-%d {form}')} {zone} ({day}{utc.strftime(form)} UTC)"


def _length(span: timedelta) -> str:
    total = max(span.total_seconds(), 0.0)
    if total < 1:
        return f"{total * 1000:.0f} ms"
    if total < 120:
        return f"{total:.0f} s"
    if total < 7200:
        return f"{total // 60:.0f} min"
    return f"{total // 3600:.0f} h" if total < 172_800 else f"{total // 86_400:.0f} days"
