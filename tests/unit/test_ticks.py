"""What becomes of due ticks: against a list of every fire."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core import ticks
from orchestrator.core.ticks import MakesUp
from orchestrator.core.timing import Cron, Every, Timing

START = datetime(2030, 3, 30, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RULES = [
    Every("1s"),
    Every("7s"),
    Every("15m"),
    Cron("* * * * *"),
    Cron("*/7 1-5 * * *", tz="Europe/Paris"),
    Cron("30 2 * * *", tz="Europe/Paris"),
    Cron("0 0 1 * *"),
]


def fires(timing: Timing, since: datetime, until: datetime) -> list[datetime]:
    """Every fire in (since, until], one by one."""
    return timing.between(since, until, 100_000)


def seconds(low: int, high: int) -> st.SearchStrategy[timedelta]:
    return st.integers(low, high).map(lambda n: timedelta(seconds=n))


def spans(rule: Any) -> st.SearchStrategy[timedelta]:
    return seconds(0, 200 if isinstance(rule, Every) and rule.interval < timedelta(minutes=1) else 2 * 86_400)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Timing, datetime, datetime, timedelta | None]:
    rule = draw(st.sampled_from(RULES))
    most = rule.interval if isinstance(rule, Every) else timedelta(minutes=10)
    jitter = draw(st.sampled_from([timedelta(0), most / 2]))
    timing = Timing(rule, jitter)
    cursor = timing.after(START)
    assert cursor is not None
    now = cursor + draw(spans(rule)) + draw(st.sampled_from([timedelta(0), timedelta(microseconds=900_000)]))
    return timing, cursor, now, draw(st.none() | spans(rule).filter(bool))


def due_times(timing: Timing, cursor: datetime, now: datetime, *, jittered: bool = True) -> list[datetime]:
    """The due ones in order, up to the first that is not."""
    found: list[datetime] = []
    for at in fires(timing, cursor - SECOND, now):
        if jittered and ticks.due_at(timing, "f/k", at) > now:
            break
        found.append(at)
    return found


@settings(max_examples=400)
@given(case=cases(), missed=st.sampled_from(["skip", "latest", "all", "none"]), jittered=st.booleans())
def test_every_due_tick_is_started_or_counted_once(case: Any, missed: Any, jittered: bool) -> None:
    """The decision, against the list."""
    timing, cursor, now, window = case
    expected = due_times(timing, cursor, now, jittered=jittered)
    due = ticks.due(timing, "f/k", cursor, now, MakesUp(missed, window), jittered=jittered)
    if not expected:
        assert due is None
        return
    assert due is not None
    young = [at for at in expected if window is None or at >= now - window]
    last = expected[-1]
    on_time = now - (ticks.due_at(timing, "f/k", last) if jittered else last) <= ticks.GRACE
    wanted = {
        "none": [],
        "skip": [last] if on_time and last in young else [],
        "latest": [last] if last in young else [],
        "all": young[: ticks.AT_ONCE],
    }[missed]
    decided = expected[: expected.index(wanted[-1]) + 1] if wanted else expected
    left_out = [at for at in decided if at not in wanted]
    assert list(due.times) == wanted
    assert due.last == decided[-1]
    assert due.last_missed == (left_out[-1] if left_out else None)
    assert due.missed == len(left_out)
    assert due.cursor == timing.after(decided[-1])
    assert due.due_at == (due.cursor and ticks.due_at(timing, "f/k", due.cursor))


def test_a_year_of_seconds_is_counted_and_found_at_once() -> None:
    """An outage costs no more for being long."""
    timing = Timing(Every("1s"))
    year = timedelta(days=365)
    due = ticks.due(timing, "f/k", START, START + year, MakesUp("latest"))
    assert due is not None
    assert due.times == (START + year,)
    assert due.missed == ticks.COUNTED
    assert due.last_missed == START + year - SECOND


def test_an_end_is_an_end() -> None:
    timing = Timing(Every("1m"), end=START + timedelta(minutes=3))
    due = ticks.due(timing, "f/k", START, START + timedelta(hours=1), MakesUp("all"))
    assert due is not None
    assert len(due.times) == 3
    assert (due.cursor, due.due_at) == (None, None)
    assert ticks.due(timing, "f/k", None, START, MakesUp("all")) is None


A, B, C = (START + timedelta(minutes=n) for n in range(3))


@pytest.mark.parametrize(
    ("overlap", "busy", "expected"),
    [
        ("allow", True, ["started", "started", "started"]),
        ("skip", False, ["started", "skipped", "skipped"]),
        ("skip", True, ["skipped", "skipped", "skipped"]),
        ("queue", False, ["started", "skipped", "queued"]),
        ("queue", True, ["skipped", "skipped", "queued"]),
        ("cancel", False, ["skipped", "skipped", "started"]),
        ("cancel", True, ["skipped", "skipped", "started"]),
    ],
)
def test_what_an_overlap_makes_of_ticks(overlap: Any, busy: bool, expected: list[str]) -> None:
    assert ticks.outcomes([A, B, C], overlap, busy=busy) == expected
    assert ticks.outcomes([], overlap, busy=busy) == []
    assert len(ticks.outcomes([A], overlap, busy=busy)) == 1
