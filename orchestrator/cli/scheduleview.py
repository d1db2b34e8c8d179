"""A schedule as text."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from orchestrator.cli.render import ago, error_line, facts, length
from orchestrator.cli.runview import brief
from orchestrator.core.durations import format_duration
from orchestrator.errors import ScheduleInvalid

if TYPE_CHECKING:
    from orchestrator.core.facts import Explanation
    from orchestrator.core.timing.notes import Fire
    from orchestrator.core.timing.rules import Rule, Timing
    from orchestrator.core.triggers import ScheduleDef
    from orchestrator.ledger.schedules import Lag, ScheduleRow


def plain(row: "ScheduleRow") -> dict[str, Any]:
    """For JSON: the row, and what follows from it."""
    return {**asdict(row), "rule": _rule(row), "overridden": is_overridden(row), "state": state(row)}


def is_overridden(row: "ScheduleRow") -> bool:
    return row.expression is not None or row.zone is not None


def rule(row: "ScheduleRow") -> str:
    """`0 7 * * 1-5 Europe/Paris`, `every 15m`; overrides are marked."""
    return f"{_rule(row)}{' (override)' if is_overridden(row) else ''}"


def _rule(row: "ScheduleRow") -> str:
    timing = _timing(row)
    if timing is not None:
        return _words(timing.rule)
    given = row.definition
    return f"{row.expression or given.get('expression')} {row.zone or given.get('zone', '')} (cannot be read here)"


def _timing(row: "ScheduleRow") -> "Timing | None":
    """None: another release wrote it, or this machine does not know its zone."""
    from orchestrator.engine.schedules.explain_schedule import readable

    try:
        return readable(row)
    except ScheduleInvalid:
        return None


def _words(rule: "Rule") -> str:
    from orchestrator.core.timing.rules import Cron

    if isinstance(rule, Cron):
        return f"{rule.expression} {rule.tz}"
    anchored = f" from {rule.anchor:%Y-%m-%d %H:%M:%S} UTC" if rule.anchor is not None else ""
    return f"every {format_duration(rule.interval)}{anchored}"


def state(row: "ScheduleRow") -> str:
    """`on`, or why it does not fire."""
    return stopped(row) or ("failing" if row.error is not None else "on")


def stopped(row: "ScheduleRow") -> str:
    """Why it does not fire, in a word; empty: it does."""
    if not row.active:
        return "gone"
    if not row.flow_enabled:
        return "disabled"
    if row.paused_at is not None:
        return "paused"
    return "over" if row.next_tick_at is None else ""


def fires(row: "ScheduleRow") -> bool:
    return not stopped(row)


def next_words(row: "ScheduleRow") -> str:
    """`next fire 2026-11-02 07:00 Europe/Paris (06:00 UTC)`, or why there is none."""
    if (why := stopped(row)) or row.next_tick_at is None:
        return f"it does not fire: {why}"
    return f"next fire {_spoken(row, row.next_tick_at)}"


def _spoken(row: "ScheduleRow", at: datetime | None) -> str | None:
    """In the schedule's zone, and in UTC."""
    from orchestrator.core.timing.notes import zone_of
    from orchestrator.engine.schedules.explain_schedule import spoken

    timing = _timing(row)
    return None if at is None else spoken(at, zone_of(timing.rule) if timing is not None else "UTC")


def show(row: "ScheduleRow", lag: "Lag", told: "Explanation") -> None:
    """The facts, then the sentence."""
    paused = row.paused_at and f"{ago(row.paused_at)} by {row.paused_by}: {row.pause_reason or 'no reason given'}"
    if row.paused_by == "code":
        paused = "by the code"
    facts(
        {
            "schedule": row.name,
            "rule": rule(row),
            "overridden": f"{ago(row.overridden_at)} by {row.overridden_by}" if is_overridden(row) else None,
            "state": state(row),
            "paused": paused,
            **(_given(row) if _timing(row) is not None else {}),
            "next": _spoken(row, row.next_tick_at) if fires(row) else None,
            "last": _spoken(row, row.last_tick_at),
            "open runs": row.open_runs,
            "fired": row.fired,
            "missed times": row.missed,
            "skipped": row.skipped,
            "suppressed doubles": row.doubles,
            "lag p50, p99": _lag(lag),
            "error": f"{ago(row.error_at)}: {error_line(row.error)}" if row.error is not None else None,
        }
    )
    print(f"\n{told.sentence}")
    if told.command:
        print(f"Next: {told.command}")


def _given(row: "ScheduleRow") -> dict[str, object]:
    """What the code says."""
    given = row.trigger
    return {
        "description": given.description,
        "rule of the code": _words(given.timing().rule) if is_overridden(row) else None,
        "input": brief(given.input, 200) if given.input else None,
        "jitter": format_duration(given.jitter) if given.jitter else None,
        "overlap": given.overlap,
        "missed": _missed(given),
        "starts": _spoken(row, given.start),
        "ends": _spoken(row, given.end),
    }


def _missed(given: "ScheduleDef") -> str:
    window = f", not older than {format_duration(given.window)}" if given.window is not None else ""
    return f"{given.missed}{window}"


def _lag(lag: "Lag") -> str | None:
    if lag.p50 is None or lag.p99 is None:
        return None
    return f"{length(lag.p50)}, {length(lag.p99)} of {lag.count} {'tick' if lag.count == 1 else 'ticks'}"


def fire_table(given: "Sequence[Fire]", *, jitter: bool) -> tuple[list[str], list[list[object]]]:
    """Headers and rows of a preview."""
    zone = given[0].zone
    headers = [zone, *(["UTC"] if zone != "UTC" else []), *(["due (UTC)"] if jitter else []), "in", "note"]
    now = datetime.now(UTC)
    rows: list[list[object]] = [
        [
            _clock(fire.wall),
            *([_clock(fire.at)] if zone != "UTC" else []),
            *([_clock(fire.due)] if jitter else []),
            length(fire.at - now),
            fire.note,
        ]
        for fire in given
    ]
    return headers, rows


def times_table(times: Sequence[datetime], zone: str) -> tuple[list[str], list[list[object]]]:
    """Headers and rows of a dry run."""
    if zone == "UTC":
        return ["UTC"], [[_clock(at)] for at in times]
    return [zone, "UTC"], [[_clock(at.astimezone(ZoneInfo(zone))), _clock(at)] for at in times]


def _clock(at: datetime) -> str:
    return at.strftime("%a %Y-%m-%d %H:%M:%S")
