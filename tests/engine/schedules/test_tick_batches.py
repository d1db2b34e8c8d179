"""Many schedules in one transaction: as if each were decided alone, in a few round trips."""

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from orchestrator.engine import faults
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.engine.schedules.tick import AnnouncedResult
from orchestrator.ledger import rows, session, statements
from tests.support.eventually import eventually
from tests.support.factories import Lab, mutate
from tests.support.schedules import (
    MINUTELY,
    NOON,
    STEPS,
    at,
    check,
    deploy,
    events,
    fire,
    minutes,
    outcomes,
    row,
    ticks,
)

pytestmark = pytest.mark.usefixtures("checked")

FIRST = minutes(1)[0]
UNKNOWN_ZONE = json.dumps({"type": "cron", "expression": "* * * * *", "zone": "Mars/Olympus"})
SESSIONS = (
    "FROM pg_stat_activity WHERE application_name = 'lab' AND (state = 'idle in transaction' OR query = 'COMMIT')"
)
CUT = f"SELECT pg_terminate_backend(pid) {SESSIONS}"
"""Of the session that decides; the one that asks goes on."""


def keys(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


def due(lab: Lab, names: list[str], **options: Any) -> None:
    """Flow `demo` with these schedules, all of which are due."""
    at(lab, NOON)
    deploy(lab, **{name: {**MINUTELY, **options} for name in names})
    at(lab, FIRST)


def tell(lab: Lab, names: list[str], hint: datetime | None = FIRST) -> AnnouncedResult:
    return tick.decide_announced(lab.ledger, {("demo", name): hint for name in names}, by="beat")


def as_watchdog(lab: Lab, names: list[str]) -> Fired:
    return fire(lab)


def as_beat(lab: Lab, names: list[str]) -> Fired:
    return tell(lab, names).fired


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that were run."""
    found: list[str] = []

    def sql(name: str) -> str:
        found.append(name)
        return statements.sql(name)

    monkeypatch.setattr(rows, "sql", sql)
    return found


def passes(point: str, then: Callable[[int], Any] = lambda count: None) -> list[int]:
    """Grows by one whenever the point is passed."""
    found: list[int] = []

    def passed() -> None:
        found.append(len(found) + 1)
        then(found[-1])

    faults.arm(point, passed)
    return found


# ---- what it costs ----


@pytest.mark.parametrize("count", [1, 25])
def test_a_batch_takes_as_many_statements_as_one_schedule(lab: Lab, asked: list[str], count: int) -> None:
    """Of each of two flows: a question, a transaction, its three statements."""
    names = {(flow, name): minutes(2)[0] for flow in ("demo", "other") for name in keys(count)}
    at(lab, NOON)
    for flow in ("demo", "other"):
        deploy(lab, name=flow, **{name: {**MINUTELY, "overlap": "skip"} for name in keys(count)})
    at(lab, FIRST)
    assert tick.decide_announced(lab.ledger, names, by="beat").fired.decided == len(names)
    at(lab, minutes(2)[0])
    committed = passes("tick.committed")
    asked.clear()
    assert tick.decide_announced(lab.ledger, names, by="beat").fired.decided == len(names)
    assert asked == ["named_schedules", "hold_undecided", "open_runs", "decide"]
    assert len(committed) == 1
    asked.clear()
    assert tick.decide_announced(lab.ledger, names, by="beat").fired.doubles == len(names)
    assert asked == ["named_schedules", "count_doubles"]


def test_a_batch_starts_a_flows_runs_with_one_statement(lab: Lab, asked: list[str]) -> None:
    at(lab, NOON)
    for flow in ("demo", "other"):
        deploy(lab, name=flow, **dict.fromkeys(keys(25), MINUTELY))
    at(lab, FIRST)
    assert fire(lab).decided == 50
    at(lab, minutes(2)[0])
    asked.clear()
    committed = passes("tick.committed")
    fired = fire(lab)
    assert (fired.decided, len(set(fired.started)), len(fired.dispatches)) == (50, 50, 50)
    assert asked == ["due_schedules", "left_to_newer", "hold_undecided", "decide", "start", "start"]
    assert len(committed) == 1


def test_a_transaction_starts_no_more_runs_than_that(lab: Lab) -> None:
    """Twelve schedules with ten ticks each are three transactions; each is decided as a whole."""
    at(lab, NOON)
    deploy(lab, **{name: {**MINUTELY, "missed": "all"} for name in keys(12)})
    at(lab, minutes(10)[0])
    committed = passes("tick.committed")
    assert len(fire(lab).started) == 120
    assert len(committed) == 3
    assert all(outcomes(lab, name) == [(n, "started") for n in range(1, 11)] for name in keys(12))


# ---- each as if it were alone ----


def test_schedules_of_all_kinds_in_one_batch(lab: Lab) -> None:
    """Each has its own overlap, its own missed ticks, its own cursor; nothing of one is written to another."""
    at(lab, NOON)
    kinds = {
        "allow": {},
        "skip": {"overlap": "skip"},
        "queue": {"overlap": "queue"},
        "cancel": {"overlap": "cancel"},
        "all": {"missed": "all"},
        "none": {"missed": "skip"},
        "free": {"overlap": "skip", "interval": "PT120S"},
        "late": {"overlap": "queue", "interval": "PT90S"},
    }
    deploy(lab, **{name: {**MINUTELY, **options} for name, options in kinds.items()})
    committed = passes("tick.committed")
    for minute in (1, 2, 3, 4, 6.5):
        at(lab, minutes(minute)[0])
        fire(lab)
        if minute == 4:
            assert outcomes(lab, "late") == [(1.5, "started"), (3, "queued")]
    assert len(committed) == 5
    started = {name: [n for n, outcome in outcomes(lab, name) if outcome == "started"] for name in kinds}
    assert [started.pop(name) for name in ("skip", "queue", "free", "all")] == [[1], [1], [2], [1, 2, 3, 4, 5, 6]]
    assert started.pop("late") == [1.5]
    assert set(started) == {"allow", "cancel", "none"}
    assert all(found == [1, 2, 3, 4, 6] for found in started.values())
    first, *passed = [(1, "started"), (2, "skipped"), (3, "skipped"), (4, "skipped"), (5, "missed")]
    assert outcomes(lab, "queue") == [first, *passed, (6, "queued")]
    assert outcomes(lab, "skip") == [first, *passed, (6, "skipped")]
    assert outcomes(lab, "late") == [(1.5, "started"), (3, "skipped"), (4.5, "missed"), (6, "queued")]
    for name in kinds:
        assert row(lab, name).next_tick_at == minutes({"free": 8, "late": 7.5}.get(name, 7))[0]
        missed = [outcome for _, outcome in outcomes(lab, name) if outcome.startswith("missed")]
        assert events(lab, name) == ["registered", *["missed"] * len(missed)]


@pytest.mark.parametrize("ask", [as_watchdog, as_beat])
def test_the_guilty_stop_nobody(lab: Lab, ask: Callable[[Lab, list[str]], Fired]) -> None:
    """One cannot be read, one is refused, and twenty are decided."""
    at(lab, NOON)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    names = ["unread", "refused", *keys(20)]
    fits = {**MINUTELY, "input": {"n": 1}}
    lab.flow(STEPS, triggers=dict.fromkeys(names, fits), input_schema=schema)
    change = "UPDATE flow_schedule_states SET definition = %s WHERE trigger_key = %s"
    lab.execute(change, UNKNOWN_ZONE, "unread")
    lab.execute(change, json.dumps(MINUTELY), "refused")
    at(lab, FIRST)
    fired = ask(lab, names)
    assert (fired.decided, len(fired.started), len(fired.dispatches)) == (21, 20, 20)
    for name in keys(20):
        assert outcomes(lab, name) == [(1, "started")]
        assert row(lab, name).error is None
    assert outcomes(lab, "refused") == [(1, "failed")]
    assert events(lab, "refused") == ["registered", "failed"]
    assert ticks(lab, "unread") == []
    (unread,) = lab.rows("SELECT * FROM flow_schedule_states WHERE trigger_key = 'unread'")
    assert unread["next_tick_at"] == FIRST
    assert unread["due_at"] > FIRST + timedelta(seconds=25)
    assert "Mars" in unread["error"]["message"]
    lab.execute(change, json.dumps({**fits, "missed": "all"}), "unread")
    lab.forward(tick.POSTPONED)
    assert fire(lab).decided == 1
    assert outcomes(lab, "unread") == [(1, "started")]


@pytest.mark.parametrize("ask", [as_watchdog, as_beat])
def test_what_the_database_refuses_of_one_is_written_of_the_others(
    lab: Lab, ask: Callable[[Lab, list[str]], Fired], caplog: pytest.LogCaptureFixture
) -> None:
    """It is postponed, with the reason and without our SQL: it would be the first page of every sweep, for ever."""
    due(lab, ["bad", *keys(9)])
    lab.execute("ALTER TABLE flow_schedule_ticks ADD CONSTRAINT for_test CHECK (trigger_key <> 'bad')")
    assert ask(lab, ["bad", *keys(9)]).decided == 9
    (bad,) = lab.rows("SELECT * FROM flow_schedule_states WHERE trigger_key = 'bad'")
    assert bad["next_tick_at"] == FIRST
    assert bad["due_at"] > FIRST + timedelta(seconds=25)
    assert bad["error"]["type"] == "CheckViolation"
    assert "for_test" in bad["error"]["message"]
    assert "INSERT" not in bad["error"]["message"] + caplog.text
    assert fire(lab) == Fired()
    lab.execute("ALTER TABLE flow_schedule_ticks DROP CONSTRAINT for_test")
    lab.forward(tick.POSTPONED)
    assert fire(lab).decided == 1


def test_queued_ticks_that_the_database_refuses_hide_no_other(lab: Lab) -> None:
    """A page of them was asked for first in every sweep, in the order of their names."""
    at(lab, NOON)
    deploy(lab, **dict.fromkeys(("bad0", "bad1", "good"), MINUTELY))
    lab.execute(
        "INSERT INTO flow_schedule_ticks (flow, trigger_key, scheduled_at, kind, outcome, by) SELECT flow, trigger_key,"
        " date_trunc('second', flow_now()), 'cron', 'queued', 'beat' FROM flow_schedule_states"
    )
    lab.execute(
        "ALTER TABLE flow_schedule_ticks ADD CONSTRAINT for_test"
        " CHECK (NOT (trigger_key LIKE 'bad%' AND outcome = 'started'))"
    )
    try:
        assert any(tick.waiting(lab.ledger, page=1).decided for _ in range(200)), "it is one of three each time"
    finally:
        lab.execute("ALTER TABLE flow_schedule_ticks DROP CONSTRAINT for_test")
    assert row(lab, "good").fired == 1


SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  IF NEW.trigger_key = 'slow' THEN RAISE EXCEPTION 'too slow' USING ERRCODE = '57014'; END IF; RETURN NEW;
END$$;
CREATE TRIGGER slow BEFORE INSERT ON flow_schedule_ticks FOR EACH ROW EXECUTE FUNCTION slow()
"""


def test_what_may_pass_is_asked_again_by_the_one_who_was_told_and_postponed_by_a_watchdog(lab: Lab) -> None:
    """Something was in the way. What always takes too long holds up others no longer than that."""
    due(lab, ["slow"])
    lab.execute(SLOW)
    try:
        with pytest.raises(DBAPIError, match="too slow"):
            tell(lab, ["slow"])
        assert row(lab, "slow").due_at == FIRST
        assert fire(lab) == Fired()
        assert row(lab, "slow").due_at > FIRST + timedelta(seconds=25)
    finally:
        lab.execute("DROP FUNCTION slow CASCADE")
    lab.forward(tick.POSTPONED)
    assert fire(lab).decided == 1


def test_each_hint_is_answered_for_itself(lab: Lab) -> None:
    """Due, decided before, early, paused and unknown, in one question."""
    at(lab, NOON)
    deploy(
        lab, now=MINUTELY, before=MINUTELY, early={**MINUTELY, "interval": "PT90S"}, off={**MINUTELY, "paused": True}
    )
    at(lab, FIRST)
    assert tell(lab, ["before"]).fired.decided == 1
    hints = {("demo", name): FIRST for name in ("now", "before", "off", "gone")}
    soon = row(lab, "early").next_tick_at
    told = tick.decide_announced(lab.ledger, {**hints, ("demo", "early"): soon}, by="beat")
    assert (told.fired.decided, told.fired.doubles, told.left) == (1, 1, ())
    assert list(told.early_s) == [("demo", "early")]
    assert 0 < told.early_s["demo", "early"] <= 60
    assert [row(lab, name).doubles for name in ("now", "before", "early", "off")] == [0, 1, 0, 0]


# ---- several at once ----


def _collide(lab: Lab) -> tuple[list[Any], int]:
    """Four who have all read that forty are due, and then decide; and how many doubles the ledger counts."""
    names = keys(40)
    asking = [names, names[::-1], names[:30], names[10:]]
    met = threading.Barrier(len(asking), timeout=60)
    faults.arm("tick.selected", met.wait)
    done = lab.race(*(lambda some=some: tell(lab, some) for some in asking))
    faults.disarm()
    (counted,) = lab.rows("SELECT sum(doubles)::int AS n FROM flow_schedule_states")
    return done, counted["n"]


def test_batches_that_collide_decide_each_once_and_count_no_double(lab: Lab) -> None:
    """Whoever comes second passes by what it does not get: nobody's hint was for a time that had been decided."""
    for _ in range(5):
        lab.reset()
        due(lab, keys(40))
        done, doubles = _collide(lab)
        assert [each for each in done if isinstance(each, BaseException)] == []
        left = tell(lab, keys(40), None).fired.decided
        assert sum(each.fired.decided for each in done) + left == 40
        assert sum(each.fired.doubles for each in done) == doubles == 0
        assert all(outcomes(lab, name) == [(1, "started")] for name in keys(40))
        check(lab)


def test_without_their_cursors_batches_would_decide_twice(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that holds whatever is free, and does not look whether it was decided meanwhile."""
    hold = statements.sql("hold_undecided").replace("s.next_tick_at = u.cursor AND s.version = u.version", "TRUE")
    decide = statements.sql("decide").replace(
        "ON CONFLICT (flow, trigger_key, scheduled_at) DO NOTHING",
        "ON CONFLICT (flow, trigger_key, scheduled_at) DO UPDATE SET run_id = excluded.run_id",
    )
    mutate(monkeypatch, hold_undecided=hold.replace("SKIP LOCKED", ""), decide=decide)
    due(lab, keys(40))
    done, _ = _collide(lab)
    assert sum(each.fired.decided for each in done if isinstance(each, AnnouncedResult)) > 40
    lab.reset()


def test_one_that_somebody_holds_is_left_and_the_others_are_decided(lab: Lab) -> None:
    due(lab, keys(5))
    with lab.holding("SELECT 1 FROM flow_schedule_states WHERE trigger_key = 'k2' FOR UPDATE"):
        assert tell(lab, keys(5)).fired.decided == 4
    assert outcomes(lab, "k2") == []
    again = tell(lab, keys(5)).fired
    assert (again.decided, again.doubles) == (1, 4)


def test_doubles_are_counted_though_somebody_holds_a_schedule(lab: Lab) -> None:
    due(lab, keys(3))
    tell(lab, keys(3))
    with lab.holding("SELECT 1 FROM flow_schedule_states WHERE trigger_key = 'k1' FOR UPDATE"):
        waits = lab.later(lambda: tell(lab, keys(3)))
        eventually(lambda: lab.waiting_sessions() == 1, message="it waits")
    assert waits.result().fired.doubles == 3
    assert [row(lab, name).doubles for name in keys(3)] == [1, 1, 1]


def test_doubles_are_counted_by_all_who_are_told_at_once(lab: Lab) -> None:
    """They wait for each other, in one order."""
    due(lab, keys(30))
    tell(lab, keys(30))
    done = lab.race(*(lambda some=some: tell(lab, some) for some in (keys(30), keys(30)[::-1]) * 2))
    assert [each.fired.doubles for each in done] == [30] * 4
    assert {row(lab, name).doubles for name in keys(30)} == {4}


# ---- ends in the middle ----


class Killed(BaseException):
    """The process ends here."""


def _kill(count: int) -> None:
    raise Killed


def test_a_batch_that_dies_leaves_nothing(lab: Lab) -> None:
    """No tick, no run, no cursor that moved; all of them are there for the next."""
    due(lab, keys(20), overlap="queue")
    before = lab.snapshot()
    passes("tick.decided", _kill)
    with pytest.raises(Killed):
        tell(lab, keys(20))
    faults.disarm()
    assert lab.snapshot() == before
    assert lab.rows("SELECT 1 FROM flow_schedule_ticks") == []
    assert {row(lab, name).next_tick_at for name in keys(20)} == {FIRST}
    told = tell(lab, keys(20)).fired
    assert (told.decided, told.doubles) == (20, 0)


def test_a_batch_whose_database_goes_away_is_asked_again(lab: Lab) -> None:
    due(lab, keys(20))
    passes("tick.decided", lambda count: lab.execute(CUT))
    with pytest.raises(DBAPIError):
        tell(lab, keys(20))
    faults.disarm()
    assert lab.rows("SELECT 1 FROM flow_schedule_ticks") == []
    told = tell(lab, keys(20)).fired
    assert (told.decided, told.doubles) == (20, 0)


def test_what_is_left_over_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database goes away in the second of three transactions: the first counts, the rest is named."""
    monkeypatch.setattr(tick, "BATCH", 2)
    due(lab, keys(6))
    passes("tick.decided", lambda count: lab.execute(CUT) if count == 2 else None)
    told = tell(lab, keys(6))
    faults.disarm()
    assert (told.fired.decided, len(told.fired.dispatches), len(told.left)) == (2, 2, 4)
    again = tell(lab, [key for _, key in told.left]).fired
    assert (again.decided, again.doubles) == (4, 0)


def test_doubles_that_could_not_be_counted_are_left_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided beside them is not asked for again: that would be a double that is none."""
    monkeypatch.setattr(session, "IDLE_S", 3600.0)  # on a busy machine the lost connection would be replaced unseen
    due(lab, keys(3))
    tell(lab, ["k0"])
    passes("tick.committed", lambda count: (lab.execute(CUT), eventually(lambda: not lab.rows(f"SELECT 1 {SESSIONS}"))))
    told = tell(lab, keys(3))
    faults.disarm()
    counted = lab.shares_sessions  # on another session, and all the same
    assert (told.fired.decided, told.fired.doubles, told.left) == (2, counted, () if counted else (("demo", "k0"),))
    assert tell(lab, ["k0"] * (not counted)).fired.doubles == (not counted)
    assert [row(lab, name).doubles for name in keys(3)] == [1, 0, 0]
