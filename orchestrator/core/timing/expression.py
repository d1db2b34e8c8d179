"""Cron expressions on wall time: what is valid, why something is not, and the next match. Zones are not known here."""

from datetime import datetime
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError

from orchestrator.core.suggest import closest
from orchestrator.errors import ScheduleInvalid

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day-of-month", "1-31, `L` (last day) or `LW` (last weekday)"),
    ("month", "1-12 or JAN-DEC"),
    ("day-of-week", "0-7 or SUN-SAT (0 and 7 are Sunday), `5L` (the last Friday) or `5#2` (the second)"),
)
_LONGEST: Final = 500
_SOME_DAY: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time


@lru_cache(maxsize=4096)
def parse(expression: str) -> CronSim:
    """The parsed expression, shared: never advance it, `first_after` takes a copy.

    Raises:
        ScheduleInvalid: it is not one, or can never match.
    """
    if len(expression) > _LONGEST:
        raise _invalid(expression[:40] + "…", f"has {len(expression)} characters", f"write at most {_LONGEST}.")
    fields = _fields(expression)
    try:
        parsed = CronSim(" ".join(fields), _SOME_DAY)
    except CronSimError as exc:
        raise _bad_field(expression, fields, str(exc)) from exc
    if _next(parsed, _SOME_DAY) is None:
        raise _invalid(
            expression, "never fires: no date has this day of the month and of the week", "change one of them."
        )
    return parsed


def first_after(expression: str, wall: datetime) -> datetime | None:
    """The first match after `wall` (naive), None: none in the next 50 years."""
    return _next(parse(expression), wall)


def _next(parsed: CronSim, wall: datetime) -> datetime | None:
    walker = CronSim.__new__(CronSim)  # a shallow copy; the copy module takes four times as long
    walker.__dict__.update(parsed.__dict__, dt=wall)
    try:
        return next(walker, None)
    except (OverflowError, ValueError):  # past the year 9999
        return None


def every_hour(expression: str) -> bool:
    """Whether the hour is left open (`*`, `*/n`, or all 24), so that the rule counts hours rather than names them."""
    parsed = parse(expression)
    return parsed.parts[2].startswith("*") or len(parsed.hours) == 24


def _fields(expression: str) -> list[str]:
    if expression.startswith("@"):
        return _named(expression).split()
    fields = expression.split()
    if len(fields) == 6:
        fix = 'leave the seconds out; for less than a minute use `Every("10s")`.'
        raise _invalid(expression, "has six fields", fix)
    if len(fields) != 5:
        count = f"has {len(fields)} field{'s' if len(fields) != 1 else ''}"
        fix = "write five: minute, hour, day of month, month, day of week, such as `0 7 * * 1-5`."
        raise _invalid(expression, count, fix)
    return fields


def _named(expression: str) -> str:
    found = NAMES.get(expression.lower())
    if found is None:
        match = closest(expression, NAMES)
        every = expression.lower().startswith("@every")
        hint = 'write `Every("5m")`.' if every else f"did you mean `{match}`?" if match else f"use one of {_names()}."
        raise _invalid(expression, "is not a known name", hint)
    return found


def _names() -> str:
    return ", ".join(f"`{name}`" for name in NAMES)


def _bad_field(expression: str, fields: list[str], reason: str) -> ScheduleInvalid:
    names = [name for name, _ in _FIELDS]
    name = reason.removeprefix("Bad ")
    if name not in names:
        return _invalid(expression, f"is not understood ({reason})", "write five fields, such as `0 7 * * 1-5`.")
    at = names.index(name)
    if name == "day-of-month" and _parses([*"**", fields[at], *"**"]):
        problem = f"never fires: no month of `{fields[3]}` has a day `{fields[at]}`"
        return _invalid(expression, problem, "change the day, or write `L` for the last day of the month.")
    terms = fields[at].split(",")
    term = next((one for one in terms if not _parses([*"*" * at, one or "?", *"*" * (4 - at)])), fields[at])
    return _invalid(expression, f"has the {name} `{term}`", f"write {_FIELDS[at][1]}, a range, a list, `*` or `*/n`.")


def _parses(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), _SOME_DAY)
    except CronSimError:
        return False
    return True


def _invalid(expression: str, problem: str, fix: str) -> ScheduleInvalid:
    return ScheduleInvalid(f"The cron expression `{expression}` {problem}. Fix: {fix}", value=expression)
