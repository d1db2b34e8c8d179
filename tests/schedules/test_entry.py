"""RedBeat's entry with our schedule: the same times as the ledger, also after a trip through Redis."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.timing import Cron, Every, Timing
from orchestrator.schedules.entry import LedgerEntry
from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import App, make_app

START = datetime(2026, 1, 1, tzinfo=UTC)
TIMINGS = (
    Timing(Every("15m")),
    Timing(Every("90s", anchor="2026-01-01T00:00:07Z"), jitter=timedelta(seconds=20)),
    Timing(Cron("30 2 * * *", tz="Europe/Paris"), jitter=timedelta(hours=1)),
    Timing(
        Cron("*/5 * * * *", "America/New_York", gap="next", fold="second"),
        start=START,
        end=datetime(2027, 1, 1, tzinfo=UTC),
    ),
)


@pytest.fixture(scope="module")
def app() -> App:
    return make_app(Settings(broker_url="redis://127.0.0.1:1/0"), {})  # type: ignore[arg-type]


@pytest.mark.parametrize("timing", TIMINGS, ids=str)
def test_an_entry_comes_back_from_redis_as_it_was(app: App, timing: Timing) -> None:
    first = timing.after(START)
    assert first is not None
    entry = LedgerEntry.of(app, "shop", "nightly", timing, first)
    again = LedgerEntry.read(app, entry.definition, entry.meta)
    assert again.schedule == entry.schedule
    assert (again.name, again.task, again.args) == ("shop/nightly", "orchestrator.tick", ["shop", "nightly"])
    assert again.fire == entry.fire
    assert again.fire is not None
    assert again.fire.scheduled == first
    assert again.score == (first + timing.delay("shop/nightly", first)).timestamp()


@given(
    timing=st.sampled_from(TIMINGS),
    begin=st.integers(0, 400 * 86_400),
    late=st.lists(st.integers(0, 4_000_000), max_size=10),
)
def test_an_entry_never_steps_over_a_tick_that_is_not_due_yet(
    app: App, timing: Timing, begin: int, late: list[int]
) -> None:
    """With jitter, a fire may have passed whose announcement is still to come."""
    first = timing.after(START + timedelta(seconds=begin))
    if first is None:
        return
    entry = LedgerEntry.of(app, "shop", "nightly", timing, first)
    for lag in late:
        fire = entry.fire
        if fire is None:
            return
        now = fire.due + timedelta(milliseconds=lag)
        entry.advance(now)
        following = entry.fire
        assert following is None or following.scheduled > fire.scheduled
        until = (following.scheduled if following is not None else now) - timedelta(seconds=1)
        for passed in timing.between(fire.scheduled, until, 1000):
            assert passed + timing.delay("shop/nightly", passed) <= now  # announced with this one


def test_one_announcement_stands_for_all_that_was_missed(app: App) -> None:
    entry = LedgerEntry.of(app, "shop", "nightly", Timing(Every("1s")), START)
    entry.advance(START + timedelta(hours=1, milliseconds=300))
    assert entry.due_at == START + timedelta(hours=1, seconds=1)
    assert entry.total_run_count == 1


def test_a_rule_that_ended_is_passed_by(app: App) -> None:
    timing = Timing(Every("1h"), end=START + timedelta(hours=1))
    entry = LedgerEntry.of(app, "shop", "nightly", timing, START)
    entry.advance(START)
    assert (entry.fire, entry.score) == (None, -1.0)


def test_what_is_not_ours_is_refused(app: App) -> None:
    definition = json.dumps(
        {"name": "a", "task": "b", "schedule": {"__type__": "interval", "every": 5, "relative": False}}
    )
    with pytest.raises(TypeError, match="not an entry of ours"):
        LedgerEntry.read(app, definition, None)
