"""Ticks: each due time is decided once, with its run, in one commit."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.engine import faults
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.engine.schedules.tick import AnnouncedResult
from orchestrator.ledger import reads, schedules
from tests.support.factories import Lab, loop
from tests.support.schedules import (
    MINUTE,
    MINUTELY,
    NOON,
    STEPS,
    at,
    check_nothing_lost,
    deploy,
    end_runs,
    events,
    fire,
    minutely,
    minutes,
    outcomes,
    row,
    tell,
    ticks,
)

pytestmark = pytest.mark.usefixtures("checked")

# ---- one tick ----


def test_a_due_tick_is_a_run_with_its_scheduled_time(lab: Lab) -> None:
    minutely(lab, input={"n": 1e22})
    assert fire(lab) == Fired()
    at(lab, NOON + MINUTE)
    fired = fire(lab)
    (run_id,) = fired.started
    assert fired.decided == 1
    assert [(one.run_id, one.step_key) for one in fired.dispatches] == [(run_id, "a")]
    run = lab.run_row(run_id)
    assert (run["trigger_type"], run["scheduled_for"], run["trigger_body"]) == ("cron", NOON + MINUTE, {"n": 1e22})
    (found,) = ticks(lab)
    assert (found.scheduled_at, found.kind, found.outcome, found.run_id) == (NOON + MINUTE, "cron", "started", run_id)
    assert found.by == "watchdog"
    assert found.lag is not None
    assert timedelta(0) <= found.lag < timedelta(seconds=5)
    one = row(lab)
    assert (one.last_tick_at, one.next_tick_at, one.due_at) == (*minutes(1, 2), NOON + 2 * MINUTE)
    assert (one.fired, one.missed, one.skipped, one.doubles, one.open_runs) == (1, 0, 0, 0, 1)
    assert fire(lab) == Fired()
    end_runs(lab, fired.started)


def test_loops_and_defaults_start_as_in_any_run(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, steps={"each": loop([1, 2])}, m=MINUTELY)
    at(lab, NOON + MINUTE)
    fired = fire(lab)
    assert [one.step_key for one in fired.dispatches] == ["each.0.do", "each.1.do"]
    end_runs(lab, fired.started)


def test_the_time_counts_from_the_commit_of_the_due_time_not_before(lab: Lab) -> None:
    """`late` leaves the first seconds to a beat; without a beat the watchdog comes no later than that."""
    minutely(lab)
    at(lab, NOON + MINUTE + timedelta(seconds=3))
    assert fire(lab, late=timedelta(seconds=5)) == Fired()
    at(lab, NOON + MINUTE + timedelta(seconds=5))
    assert fire(lab, late=timedelta(seconds=5)).decided == 1


def test_next_due_is_the_first_of_all(lab: Lab) -> None:
    at(lab, NOON)
    assert tick.next_due(lab.ledger) is None
    deploy(lab, m=MINUTELY, hourly={"type": "cron", "expression": "@hourly"})
    seconds = tick.next_due(lab.ledger)
    assert seconds is not None
    assert 55 < seconds <= 60
    at(lab, NOON + 2 * MINUTE)
    seconds = tick.next_due(lab.ledger)
    assert seconds is not None
    assert -65 < seconds < -59


def test_pages_go_on_until_nothing_is_due(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, **{f"k{n}": MINUTELY for n in range(7)})
    at(lab, NOON + MINUTE)
    pages = []
    while (fired := fire(lab, page=3)).decided:
        pages.append((fired.decided, fired.more))
    assert pages == [(3, True), (3, True), (1, False)]


def test_jitter_holds_a_tick_back_and_is_the_same_for_everyone(lab: Lab) -> None:
    minutely(lab, jitter="PT50S")
    first = NOON + MINUTE
    one = row(lab)
    delay = one.timing().delay("demo/m", first)
    assert timedelta(0) < delay < timedelta(seconds=50)
    assert one.due_at == first + delay
    at(lab, first + delay - timedelta(milliseconds=500))
    assert fire(lab) == Fired()
    at(lab, first + delay)
    (run_id,) = fire(lab).started
    assert lab.run_row(run_id)["scheduled_for"] == first
    (found,) = ticks(lab)
    assert found.lag is not None
    assert found.lag < timedelta(seconds=5)


def test_an_end_is_the_last_tick(lab: Lab) -> None:
    minutely(lab, end=(NOON + 2 * MINUTE).isoformat())
    at(lab, NOON + 5 * MINUTE)
    assert fire(lab).decided == 1
    one = row(lab)
    assert (one.next_tick_at, one.due_at, one.next_ticks(3)) == (None, None, [])
    assert outcomes(lab) == [(1, "started")]


# ---- what was missed ----


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"missed": "skip"}, [(5, "missed 5")]),
        ({"missed": "latest"}, [(4, "missed 4"), (5, "started")]),
        ({"missed": "all"}, [(n, "started") for n in range(1, 6)]),
        ({"missed": "all", "window": "PT3M"}, [(3, "missed 3"), (4, "started"), (5, "started")]),
        ({"missed": "latest", "window": "PT1M"}, [(5, "missed 5")]),
    ],
)
def test_what_becomes_of_missed_ticks(lab: Lab, options: Any, expected: Any) -> None:
    """Nobody fired until 12:06:30, and then with a grace of 40 s; the last is 90 s late."""
    minutely(lab, end=(NOON + timedelta(minutes=5, seconds=30)).isoformat(), **options)
    at(lab, NOON + timedelta(minutes=6, seconds=30))
    fire(lab)
    assert outcomes(lab) == expected
    check_nothing_lost(lab, NOON)
    assert events(lab) == ["registered", *(["missed"] if "missed" in str(expected) else [])]


def test_a_tick_within_the_grace_was_not_missed(lab: Lab) -> None:
    minutely(lab, missed="skip")
    at(lab, NOON + timedelta(minutes=1, seconds=58))
    assert len(fire(lab).started) == 1


def test_all_goes_on_from_page_to_page(lab: Lab) -> None:
    """250 ticks of one second: a hundred in a transaction, all in order, none lost."""
    at(lab, NOON)
    deploy(lab, m={"type": "every", "interval": "PT1S", "missed": "all"})
    at(lab, NOON + timedelta(seconds=250))
    pages = [tell(lab).fired for _ in range(3)]
    assert [(len(page.started), page.unfinished) for page in pages] == [
        *[(100, (("demo", "m"),))] * 2,
        (50, ()),
    ]
    check_nothing_lost(lab, NOON)


# ---- hints ----


def test_a_hint_that_comes_again_is_a_double(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE)
    assert tell(lab, NOON + MINUTE).fired.decided == 1
    assert tell(lab, NOON + MINUTE).fired.doubles == 1
    assert tell(lab, NOON + MINUTE).fired.doubles == 1
    assert row(lab).doubles == 2
    assert len(ticks(lab)) == 1


def test_a_hint_before_its_time_leads_to_nothing(lab: Lab) -> None:
    """The clock of the beat is ahead: the ledger's counts."""
    minutely(lab)
    early = tell(lab, NOON + MINUTE)
    assert early.fired == Fired()
    assert 55 < early.early_s["demo", "m"] <= 60
    assert tell(lab, NOON + timedelta(hours=1)).fired == Fired()
    assert tell(lab) == AnnouncedResult(Fired(), {}, ())
    assert tell(lab, NOON, key="other") == AnnouncedResult(Fired(), {}, ())


def test_a_clock_that_went_back_repeats_nothing(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + 2 * MINUTE)
    fire(lab)
    at(lab, NOON + MINUTE)
    assert fire(lab) == Fired()
    deploy(lab, m={"type": "every", "interval": "PT30S"})
    assert row(lab).next_tick_at == NOON + timedelta(minutes=2, seconds=30)


# ---- overlap ----


def overlap_case(lab: Lab, overlap: str) -> Any:
    """The run of the first minute is open when the second and third come."""
    minutely(lab, overlap=overlap)
    at(lab, NOON + MINUTE)
    (first,) = fire(lab).started
    at(lab, NOON + 2 * MINUTE)
    second = fire(lab)
    at(lab, NOON + 3 * MINUTE)
    return first, second, fire(lab)


def test_overlap_allow(lab: Lab) -> None:
    overlap_case(lab, "allow")
    assert outcomes(lab) == [(1, "started"), (2, "started"), (3, "started")]
    assert row(lab).open_runs == 3


def test_overlap_skip(lab: Lab) -> None:
    first, *_ = overlap_case(lab, "skip")
    assert outcomes(lab) == [(1, "started"), (2, "skipped"), (3, "skipped")]
    end_runs(lab, [first])
    at(lab, NOON + 4 * MINUTE)
    assert len(fire(lab).started) == 1
    assert row(lab).skipped == 2


def test_overlap_queue_keeps_the_newest(lab: Lab) -> None:
    first, *_ = overlap_case(lab, "queue")
    assert outcomes(lab) == [(1, "started"), (2, "skipped"), (3, "queued")]
    assert tick.waiting(lab.ledger) == Fired()
    end_runs(lab, [first])
    (second,) = tick.waiting(lab.ledger).started
    assert lab.run_row(second)["scheduled_for"] == NOON + 3 * MINUTE
    assert tick.waiting(lab.ledger) == Fired()
    assert outcomes(lab) == [(1, "started"), (2, "skipped"), (3, "started")]


def test_a_queued_tick_waits_for_a_run_that_came_between(lab: Lab) -> None:
    first, *_ = overlap_case(lab, "queue")
    deploy(lab, m={**MINUTELY, "overlap": "allow"})
    at(lab, NOON + 4 * MINUTE)
    (between,) = fire(lab).started
    end_runs(lab, [first])
    assert tick.waiting(lab.ledger).started == ()
    assert tick.waiting(lab.ledger) == Fired()
    end_runs(lab, [between])
    assert len(tick.waiting(lab.ledger).started) == 1


def test_a_tick_does_not_overtake_a_queued_one(lab: Lab) -> None:
    """Its run before has ended, and nobody has started it yet."""
    first, *_ = overlap_case(lab, "queue")
    end_runs(lab, [first])
    at(lab, NOON + 4 * MINUTE)
    assert fire(lab).started == ()
    assert outcomes(lab)[2:] == [(3, "skipped"), (4, "queued")]
    assert len(tick.waiting(lab.ledger).started) == 1


def test_overlap_cancel_ends_the_runs_before(lab: Lab) -> None:
    first, second, third = overlap_case(lab, "cancel")
    assert outcomes(lab) == [(1, "started"), (2, "started"), (3, "started")]
    assert [lab.status(run_id) for run_id in (first, *second.started)] == [RunStatus.CANCELLED] * 2
    assert reads.runs.get(lab.ledger, first).cancel_reason == "the next tick of its schedule came"
    end_runs(lab, third.started)
    assert lab.status(third.started[0]) is RunStatus.SUCCEEDED


def test_overlap_cancel_asks_a_running_handler_to_stop(lab: Lab) -> None:
    minutely(lab, overlap="cancel")
    at(lab, NOON + MINUTE)
    (first,) = fire(lab).started
    lease = lab.take(first, "a")
    at(lab, NOON + 2 * MINUTE)
    assert len(fire(lab).started) == 1
    assert lab.run_row(first)["halt"] == "cancelled"
    lab.fail(lease, retryable=False)
    assert lab.status(first) is RunStatus.CANCELLED


# ---- what cannot start ----


def test_an_input_that_fits_no_more_fails_its_tick_and_nobody_elses(lab: Lab) -> None:
    """The reason is kept, logged once, and forgotten when a tick starts."""
    at(lab, NOON)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    fits = {**MINUTELY, "input": {"n": 1}}
    lab.flow(STEPS, triggers={"bad": fits, "m": fits}, input_schema=schema)
    lab.execute("UPDATE flow_schedule_states SET definition = %s WHERE trigger_key = 'bad'", json.dumps(MINUTELY))
    for minute in (1, 2):
        at(lab, NOON + minute * MINUTE)
        fired = fire(lab)
        assert (fired.decided, len(fired.started)) == (2, 1)
    assert outcomes(lab, "bad") == [(1, "failed"), (2, "failed")]
    one = row(lab, "bad")
    assert one.error is not None
    assert one.error["type"] == "InputInvalid"
    assert '"n" is a required property' in one.error["message"]
    assert events(lab, "bad") == ["registered", "failed"]
    lab.execute("UPDATE flow_schedule_states SET definition = %s WHERE trigger_key = 'bad'", json.dumps(fits))
    at(lab, NOON + 3 * MINUTE)
    fire(lab)
    assert row(lab, "bad").error is None
    assert row(lab, "bad").error_at is None


def test_a_schedule_that_cannot_be_read_is_in_nobodys_way(lab: Lab) -> None:
    """A zone that this machine does not know: it is asked again later, and the others fire."""
    at(lab, NOON)
    deploy(lab, bad=MINUTELY, m=MINUTELY)
    unknown = json.dumps({"type": "cron", "expression": "* * * * *", "zone": "Mars/Olympus"})
    lab.execute("UPDATE flow_schedule_states SET definition = %s WHERE trigger_key = 'bad'", unknown)
    at(lab, NOON + MINUTE)
    assert len(fire(lab).started) == 1
    assert fire(lab) == Fired()
    bad = lab.rows("SELECT * FROM flow_schedule_states WHERE trigger_key = 'bad'")[0]
    assert bad["next_tick_at"] == NOON + MINUTE
    assert "Mars" in bad["error"]["message"]
    mended = json.dumps({**MINUTELY, "missed": "all"})
    lab.execute("UPDATE flow_schedule_states SET definition = %s WHERE trigger_key = 'bad'", mended)
    lab.forward(tick.POSTPONED)
    assert len(fire(lab).started) == 1
    assert outcomes(lab, "bad") == [(1, "started")]


def test_a_backfill_that_was_first_is_not_doubled(lab: Lab) -> None:
    """The tick's row is there: the cursor passes by."""
    minutely(lab, missed="all")
    at(lab, NOON + 3 * MINUTE)
    lab.execute(
        "INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, by)"
        " VALUES ('demo', 'm', %s, 'backfill', 'skipped', 'operator')",
        NOON + 2 * MINUTE,
    )
    lab.execute("UPDATE flow_schedule_states SET skipped = 1")
    assert len(fire(lab).started) == 2
    assert outcomes(lab) == [(1, "started"), (2, "skipped"), (3, "started")]


# ---- crashes ----


class Killed(BaseException):
    """The process ends here."""


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("point", ["tick.selected", "tick.decided", "tick.committed"])
def test_a_crash_loses_and_doubles_nothing(lab: Lab, point: str) -> None:
    minutely(lab, missed="all", overlap="queue")
    at(lab, NOON + 3 * MINUTE)
    faults.arm(point, kill)
    with pytest.raises(Killed):
        fire(lab)
    faults.disarm()
    fire(lab)
    assert outcomes(lab) == [(1, "started"), (2, "skipped"), (3, "queued")]
    (first,) = lab.rows("SELECT id FROM flow_runs")
    end_runs(lab, [first["id"]])
    faults.arm(point, kill)
    with pytest.raises(Killed):
        tick.waiting(lab.ledger)
    faults.disarm()
    tick.waiting(lab.ledger)
    assert outcomes(lab) == [(1, "started"), (2, "skipped"), (3, "started")]
    check_nothing_lost(lab, NOON)


def test_a_session_that_dies_with_the_schedule_in_hand_frees_it(lab: Lab) -> None:
    """What it wrote is gone with it; until then the others pass by."""
    minutely(lab)
    at(lab, NOON + MINUTE)
    seen: list[Fired] = []

    def die() -> None:
        faults.disarm()
        seen.append(lab.later(lambda: fire(lab)).result())
        lab.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'lab' AND state = 'idle in transaction'"
        )

    faults.arm("tick.decided", die)
    with pytest.raises(Exception, match=r"terminat|closed|lost|received 2 results"):
        fire(lab)
    assert seen == [Fired()]
    assert ticks(lab) == []
    assert len(fire(lab).started) == 1


def test_what_was_committed_is_told_when_the_database_goes_away(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dispatches are published all the same; the rest comes with the next page."""
    monkeypatch.setattr(tick, "BATCH", 1)
    at(lab, NOON)
    deploy(lab, **{f"k{n}": MINUTELY for n in range(3)})
    at(lab, NOON + MINUTE)
    passed: list[int] = []

    def cut() -> None:
        passed.append(1)
        if len(passed) == 2:
            lab.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'lab' AND state = 'idle in transaction'"
            )

    faults.arm("tick.decided", cut)
    fired = fire(lab)
    faults.disarm()
    assert len(fired.started) == len(fired.dispatches) == 1
    assert len(fire(lab).started) == 2


# ---- context ----


def test_a_run_knows_the_time_it_was_scheduled_for(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE)
    (run_id,) = fire(lab).started
    by_hand = lab.start()
    with lab.ledger.tx() as tx:
        assert schedules.scheduled_for(tx, run_id) == NOON + MINUTE
        assert schedules.scheduled_for(tx, by_hand) is None
    assert reads.runs.get(lab.ledger, run_id).scheduled_for == NOON + MINUTE
    assert reads.runs.get(lab.ledger, by_hand).scheduled_for is None


def test_scheduled_times_are_aware(lab: Lab) -> None:
    minutely(lab)
    assert isinstance(row(lab).next_tick_at, datetime)
    assert row(lab).next_ticks(2) == minutes(1, 2)
