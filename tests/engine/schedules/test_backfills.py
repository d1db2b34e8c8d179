"""Backfills: a run for every time of a span that has none, in order, so many at once."""

from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.engine.flows import switch
from orchestrator.engine.schedules import operate as acts
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.engine.schedules.operate import Backfill
from orchestrator.errors import FlowDisabled, ScheduleInvalid, ScheduleNotFound
from orchestrator.ledger.ticks import Span
from tests.support.factories import Lab
from tests.support.schedules import (
    MINUTE,
    NOON,
    at,
    end_runs,
    events,
    facts,
    fire,
    minutely,
    minutes,
    outcomes,
    row,
    ticks,
)

pytestmark = pytest.mark.usefixtures("checked")


def backfill(lab: Lab, since: float, until: float, *, dry_run: bool = False, **options: Any) -> Backfill:
    span = Span(*minutes(since, until), **options)
    return acts.backfill(lab.ledger, "demo", "m", span, by="ann", dry_run=dry_run)


def run_out(lab: Lab) -> list[list[float]]:
    """Minutes of the runs that are started together, until nothing waits."""
    rounds = []
    while fired := tick.waiting(lab.ledger).started:
        times = [(lab.run_row(run_id)["scheduled_for"] - NOON) / MINUTE for run_id in fired]
        assert {lab.run_row(run_id)["trigger_type"] for run_id in fired} == {"backfill"}
        rounds.append(times)
        end_runs(lab, fired)
    return rounds


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({}, [[-5], [-4], [-3], [-2]]),
        ({"reverse": True}, [[-2], [-3], [-4], [-5]]),
        ({"max_parallel": 3}, [[-5, -4, -3], [-2]]),
        ({"max_parallel": 9, "reverse": True}, [[-2, -3, -4, -5]]),
    ],
)
def test_a_backfill_runs_in_order(lab: Lab, options: Any, rounds: Any) -> None:
    """[since, until): the end is not part of it."""
    minutely(lab)
    found = backfill(lab, -5, -1, **options)
    assert [(time - NOON) / MINUTE for time in found.times] == [n for group in rounds for n in group]
    assert run_out(lab) == rounds
    (stored,) = lab.rows("SELECT * FROM flow_schedule_backfills")
    assert stored["ended_at"] is not None
    assert {one.kind for one in ticks(lab)} == {"backfill"}
    assert row(lab).fired == 4
    assert facts(lab)["ticks"] == 4


def test_no_more_than_its_share_is_open(lab: Lab) -> None:
    minutely(lab)
    backfill(lab, -9, 0, max_parallel=2)
    first, second = tick.waiting(lab.ledger).started
    assert tick.waiting(lab.ledger).started == ()
    end_runs(lab, [second])
    assert len(tick.waiting(lab.ledger).started) == 1
    assert tick.waiting(lab.ledger).started == ()
    end_runs(lab, [first])


def test_two_backfills_and_ticks_beside_them(lab: Lab) -> None:
    """Each has its own share; the overlap of the schedule does not count them."""
    minutely(lab, overlap="skip")
    backfill(lab, -9, -5)
    backfill(lab, -5, 0)
    assert len(tick.waiting(lab.ledger).started) == 2
    at(lab, NOON + MINUTE)
    assert len(fire(lab).started) == 1


def test_what_has_a_run_is_not_started_again(lab: Lab) -> None:
    """Missed, skipped, failed and cancelled times are taken over."""
    minutely(lab)
    at(lab, NOON + 3.5 * MINUTE)
    (run_id,) = fire(lab).started
    assert outcomes(lab) == [(2, "missed 2"), (3, "started")]
    found = backfill(lab, 1, 3.25)
    assert (len(found.times), found.taken) == (2, 1)
    assert backfill(lab, 1, 3).id is None
    lab.execute("UPDATE flow_schedule_states SET missed = 0")  # a time that is taken over was missed all the same
    assert run_out(lab) == [[1], [2]]
    assert outcomes(lab) == [(1, "started"), (2, "started"), (3, "started")]
    end_runs(lab, [run_id])


def test_a_dry_run_writes_nothing(lab: Lab) -> None:
    minutely(lab)
    found = backfill(lab, -5, -1, dry_run=True, reverse=True)
    assert found.id is None
    assert list(found.times) == minutes(-2, -3, -4, -5)
    assert ticks(lab) == []
    assert lab.rows("SELECT * FROM flow_schedule_backfills") == []
    assert events(lab) == ["registered"]


def test_a_cancelled_backfill_starts_no_more(lab: Lab) -> None:
    minutely(lab)
    found = backfill(lab, -5, -1)
    assert found.id is not None
    (run_id,) = tick.waiting(lab.ledger).started
    assert acts.cancel_backfill(lab.ledger, "demo", "m", found.id, by="ann") == 3
    assert acts.cancel_backfill(lab.ledger, "demo", "m", found.id, by="ann") == 0
    end_runs(lab, [run_id])
    assert tick.waiting(lab.ledger) == Fired()
    assert outcomes(lab) == [(-5, "started"), *((n, "cancelled") for n in (-4, -3, -2))]
    assert events(lab) == ["registered", "backfill_started", "backfill_cancelled"]
    with pytest.raises(ScheduleNotFound, match="demo/m has no backfill"):
        acts.cancel_backfill(lab.ledger, "demo", "m", uuid4(), by="ann")


def test_a_backfill_of_another_schedule_is_none_of_its_own(lab: Lab) -> None:
    """A key that may operate one flow must not reach into another one."""
    minutely(lab)
    found = backfill(lab, -5, -1)
    assert found.id is not None
    for flow, key in (("other", "m"), ("demo", "n")):
        with pytest.raises(ScheduleNotFound, match=f"{flow}/{key} has no backfill"):
            acts.cancel_backfill(lab.ledger, flow, key, found.id, by="ann")
    assert tick.waiting(lab.ledger).started


def test_a_backfill_goes_on_while_paused_and_waits_while_disabled(lab: Lab) -> None:
    minutely(lab)
    backfill(lab, -5, -1)
    acts.pause(lab.ledger, "demo", "m", by="ann")
    (run_id,) = tick.waiting(lab.ledger).started
    end_runs(lab, [run_id])
    switch.disable(lab.ledger, "demo", "ann")
    assert tick.waiting(lab.ledger) == Fired()
    with pytest.raises(FlowDisabled):
        backfill(lab, -9, -5)
    switch.enable(lab.ledger, "demo", "ann")
    assert len(run_out(lab)) == 3


@pytest.mark.parametrize(
    ("since", "until", "options", "says"),
    [
        (-1, -1, {}, "is not after"),
        (-1, -5, {}, "is not after"),
        (-5, 5, {}, "in the future"),
        (-1_000_000, 0, {}, "1,000,000 ticks"),
        (-10_002, 0, {}, "10,002 ticks"),
        (-5, -1, {"max_parallel": 0}, "max_parallel"),
        (-5, -1, {"max_parallel": 1_001}, "max_parallel"),
    ],
)
def test_a_wrong_backfill_is_refused(lab: Lab, since: float, until: float, options: Any, says: str) -> None:
    minutely(lab)
    with pytest.raises(ScheduleInvalid, match=says) as caught:
        backfill(lab, since, until, **options)
    assert caught.value.place in {"since", "until", "max_parallel"}
    assert "Fix: " in str(caught.value)
    assert ticks(lab) == []


def test_times_without_an_offset_are_refused(lab: Lab) -> None:
    minutely(lab)
    with pytest.raises(ScheduleInvalid, match="no offset"):
        acts.backfill(lab.ledger, "demo", "m", Span(datetime(2040, 1, 1), NOON), by="ann")  # noqa: DTZ001
