"""Schedules: what code, operators and switches do to them. Each change is an event; what is wrong changes nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.engine.flows import switch
from orchestrator.engine.schedules import operate as acts
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.errors import Conflict, FlowDisabled, InputInvalid, ScheduleInvalid
from orchestrator.ledger.ticks import Span
from tests.support.factories import Lab, call
from tests.support.schedules import (
    HOURLY,
    MINUTE,
    MINUTELY,
    NOON,
    STEPS,
    at,
    check_nothing_lost,
    deploy,
    end_runs,
    events,
    facts,
    fire,
    minutely,
    minutes,
    outcomes,
    row,
    tell,
    ticks,
)

pytestmark = pytest.mark.usefixtures("checked")

# ---- registration ----


def test_a_new_schedule_waits_for_its_first_time(lab: Lab) -> None:
    minutely(lab, input={"a": 1})
    one = row(lab)
    assert (one.active, one.live, one.next_tick_at, one.due_at) == (True, True, *minutes(1, 1))
    assert one.definition == {**MINUTELY, "interval": "PT1M", "input": {"a": 1}}
    assert facts(lab) == {"actor": "code", "version": "1", "definition": one.definition}


def test_a_start_holds_the_first_time_back(lab: Lab) -> None:
    minutely(lab, start="2041-01-01T00:00:30Z")
    assert row(lab).next_tick_at == datetime(2041, 1, 1, 0, 1, tzinfo=UTC)


def test_an_unchanged_flow_writes_nothing(lab: Lab) -> None:
    minutely(lab)
    before = lab.rows("SELECT xmin, * FROM flow_schedule_states"), lab.snapshot()
    deploy(lab, m=MINUTELY)
    assert (lab.rows("SELECT xmin, * FROM flow_schedule_states"), lab.snapshot()) == before


def test_another_version_with_the_same_schedule_leaves_its_cursor(lab: Lab) -> None:
    """A tick that is due is not decided by a deploy that does not concern it."""
    minutely(lab)
    at(lab, NOON + MINUTE)
    deploy(lab, version="2", steps={"b": call()}, m=MINUTELY)
    assert outcomes(lab) == []
    (run_id,) = fire(lab).started
    assert lab.ready(run_id) == ["b"]
    assert events(lab) == ["registered"]


def test_a_changed_rule_decides_what_was_due_by_the_old_one(lab: Lab) -> None:
    """By the old version of the flow; the new rule goes on from now."""
    minutely(lab)
    at(lab, NOON + MINUTE)
    deploy(lab, version="2", steps={"b": call()}, m=HOURLY)
    assert outcomes(lab) == [(1, "started")]
    (found,) = ticks(lab)
    assert found.run_id is not None
    assert lab.ready(found.run_id) == ["a"]
    assert row(lab).next_tick_at == NOON + timedelta(hours=1)
    assert events(lab) == ["registered", "changed"]
    at(lab, NOON + timedelta(minutes=30))
    assert fire(lab).decided == 0


def test_a_jittered_tick_is_not_lost_with_its_rule(lab: Lab) -> None:
    """It was scheduled, and its delay belongs to a rule that is gone."""
    minutely(lab, jitter="PT59S")
    at(lab, NOON + MINUTE)
    assert fire(lab).decided == 0
    deploy(lab, m=HOURLY)
    assert outcomes(lab) == [(1, "started")]


def test_another_option_goes_on_with_the_same_cursor(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE / 2)
    deploy(lab, m={**MINUTELY, "input": {"x": 1}, "overlap": "skip"})
    assert row(lab).next_tick_at == NOON + MINUTE
    assert row(lab).trigger.overlap == "skip"
    assert events(lab) == ["registered", "changed"]


def test_all_missed_ticks_of_an_old_rule_are_decided_with_a_bound(lab: Lab) -> None:
    """A deploy after a day's outage of an `all`: a thousand start, the others are written down as missed."""
    at(lab, NOON)
    deploy(lab, m={"type": "every", "interval": "PT60S", "missed": "all"})
    at(lab, NOON + timedelta(minutes=1200))
    deploy(lab, m=HOURLY)
    assert (row(lab).fired, row(lab).missed) == (1000, 200)


def test_a_removed_schedule_stops_and_comes_back_from_now(lab: Lab) -> None:
    minutely(lab, overlap="queue")
    acts.backfill(lab.ledger, "demo", "m", Span(NOON - 3 * MINUTE, NOON), by="op")
    at(lab, NOON + MINUTE)
    (run_id,) = fire(lab).started
    at(lab, NOON + 2 * MINUTE)
    fire(lab)
    at(lab, NOON + 3 * MINUTE)
    deploy(lab)
    one = row(lab)
    assert (one.active, one.live, one.next_tick_at) == (False, False, None)
    assert outcomes(lab) == [*((n, "cancelled") for n in (-3, -2, -1)), (1, "started"), (2, "skipped"), (3, "missed")]
    assert events(lab) == ["registered", "backfill_started", "backfill_cancelled", "missed", "removed"]
    end_runs(lab, [run_id])
    at(lab, NOON + 10 * MINUTE)
    assert fire(lab).decided == 0
    assert tick.waiting(lab.ledger) == Fired()
    deploy(lab, m=MINUTELY)
    assert row(lab).next_tick_at == NOON + 11 * MINUTE
    assert events(lab)[-1] == "registered"


def test_two_who_register_a_new_flow_at_once_write_its_schedules_once(lab: Lab) -> None:
    at(lab, NOON)
    for n in range(10):
        name = f"flow{n}"
        done = lab.race(*(lambda name=name: deploy(lab, name=name, m=MINUTELY, h=HOURLY) for _ in range(3)))
        assert not [each for each in done if isinstance(each, BaseException)]
        assert events(lab, flow=name) == ["registered"]
        assert events(lab, "h", flow=name) == ["registered"]


# ---- pauses ----


def test_a_pause_stops_and_a_resume_goes_on_from_now(lab: Lab) -> None:
    minutely(lab)
    acts.pause(lab.ledger, "demo", "m", by="ann", reason="audit")
    one = row(lab)
    assert (one.paused_by, one.pause_reason, one.live, one.next_tick_at) == ("ann", "audit", False, None)
    at(lab, NOON + 10 * MINUTE)
    assert fire(lab).decided == 0
    assert tell(lab, NOON + 10 * MINUTE).fired.decided == 0
    deploy(lab, version="2", m={**MINUTELY, "input": {"x": 1}})
    assert row(lab).paused_by == "ann"
    acts.resume(lab.ledger, "demo", "m", by="bob")
    one = row(lab)
    assert (one.paused_at, one.paused_by, one.pause_reason) == (None, None, None)
    assert one.next_tick_at == NOON + 11 * MINUTE
    acts.resume(lab.ledger, "demo", "m", by="bob")
    assert events(lab) == ["registered", "paused", "changed", "resumed"]
    assert facts(lab, 1) == {"actor": "ann", "reason": "audit"}


def test_what_was_due_before_a_pause_is_written_down(lab: Lab) -> None:
    """Not started behind the operator's back, and not lost."""
    minutely(lab)
    at(lab, NOON + 2 * MINUTE)
    acts.pause(lab.ledger, "demo", "m", by="ann")
    assert outcomes(lab) == [(2, "missed 2")]
    assert row(lab).missed == 2
    check_nothing_lost(lab, NOON)


def test_a_queued_tick_is_skipped_by_a_pause(lab: Lab) -> None:
    minutely(lab, overlap="queue")
    at(lab, NOON + MINUTE)
    (run_id,) = fire(lab).started
    at(lab, NOON + 2 * MINUTE)
    fire(lab)
    acts.pause(lab.ledger, "demo", "m", by="ann")
    end_runs(lab, [run_id])
    assert tick.waiting(lab.ledger) == Fired()
    assert outcomes(lab) == [(1, "started"), (2, "skipped")]


def test_the_codes_pause_follows_the_code_and_operators_have_the_last_word(lab: Lab) -> None:
    minutely(lab, paused=True)
    assert (row(lab).paused_by, row(lab).next_tick_at) == ("code", None)
    deploy(lab, m=MINUTELY)
    assert (row(lab).paused_by, row(lab).next_tick_at) == (None, NOON + MINUTE)
    deploy(lab, m={**MINUTELY, "paused": True})
    assert row(lab).paused_by == "code"
    acts.resume(lab.ledger, "demo", "m", by="ann")
    deploy(lab, version="2", m={**MINUTELY, "paused": True, "input": {"x": 1}})
    assert row(lab).live
    acts.pause(lab.ledger, "demo", "m", by="ann")
    deploy(lab, m=MINUTELY)
    assert row(lab).paused_by == "ann"


# ---- overrides ----


def test_an_override_survives_deploys_and_can_be_reset(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, m={**HOURLY, "zone": "Asia/Kathmandu"})
    acts.set_cron(lab.ledger, "demo", "m", "*/10 * * * *", by="ann")
    one = row(lab)
    assert (one.expression, one.zone, one.overridden_by) == ("*/10 * * * *", None, "ann")
    assert one.timing().rule.model_dump()["tz"] == "Asia/Kathmandu"
    assert one.next_tick_at == NOON + timedelta(minutes=5)
    deploy(lab, version="2", m={**HOURLY, "zone": "Asia/Kathmandu", "input": {"x": 1}})
    assert row(lab).expression == "*/10 * * * *"
    assert row(lab).next_tick_at == NOON + timedelta(minutes=5)
    acts.set_cron(lab.ledger, "demo", "m", "30 12 * * *", zone="UTC", by="bob")
    acts.set_cron(lab.ledger, "demo", "m", "31 12 * * *", by="bob")
    assert (row(lab).zone, row(lab).next_tick_at) == ("UTC", NOON + timedelta(minutes=31))
    acts.reset(lab.ledger, "demo", "m", by="cy")
    one = row(lab)
    assert (one.expression, one.zone, one.overridden_at, one.overridden_by) == (None, None, None, None)
    assert one.next_tick_at == NOON + timedelta(minutes=15)
    acts.reset(lab.ledger, "demo", "m", by="cy")
    assert events(lab) == ["registered", "cron_set", "changed", "cron_set", "cron_set", "reset"]
    assert facts(lab) == {"actor": "cy", "was": {"expression": "31 12 * * *", "zone": "UTC"}}


def test_an_interval_can_be_overridden(lab: Lab) -> None:
    minutely(lab, jitter="PT10S")
    acts.set_cron(lab.ledger, "demo", "m", "30 * * * *", by="ann")
    assert row(lab).next_tick_at == NOON + 30 * MINUTE
    assert row(lab).timing().jitter == timedelta(seconds=10)


def test_what_is_due_by_the_old_rule_is_decided_before_an_override(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE)
    (dispatch,) = acts.set_cron(lab.ledger, "demo", "m", "0 * * * *", by="ann")
    assert dispatch.step_key == "a"
    assert outcomes(lab) == [(1, "started")]
    at(lab, NOON + timedelta(hours=1))
    (dispatch,) = acts.reset(lab.ledger, "demo", "m", by="ann")
    assert outcomes(lab) == [(1, "started"), (60, "started")]


def test_a_paused_schedule_can_be_overridden(lab: Lab) -> None:
    minutely(lab)
    acts.pause(lab.ledger, "demo", "m", by="ann")
    acts.set_cron(lab.ledger, "demo", "m", "30 * * * *", by="ann")
    assert row(lab).next_tick_at is None
    assert row(lab).next_ticks(1) == [NOON + 30 * MINUTE]
    acts.resume(lab.ledger, "demo", "m", by="ann")
    assert row(lab).next_tick_at == NOON + 30 * MINUTE


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [("61 * * * *", None, "61"), ("0 7 * * *", "Europe/Pariss", "Europe/Paris"), ("0 0 30 2 *", None, "never")],
)
def test_a_wrong_override_changes_nothing(lab: Lab, expression: str, zone: str | None, says: str) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE)
    before = lab.snapshot(), lab.rows("SELECT * FROM flow_schedule_states")
    with pytest.raises(ScheduleInvalid, match=says):
        acts.set_cron(lab.ledger, "demo", "m", expression, zone=zone, by="ann")
    assert (lab.snapshot(), lab.rows("SELECT * FROM flow_schedule_states")) == before


def test_an_override_that_never_fires_within_the_bounds_is_refused(lab: Lab) -> None:
    minutely(lab, end="2040-12-01T00:00:00Z")
    with pytest.raises(ScheduleInvalid, match="never fires"):
        acts.set_cron(lab.ledger, "demo", "m", "0 0 24 12 *", by="ann")


# ---- trigger ----


def test_a_trigger_starts_a_run_now(lab: Lab) -> None:
    """Whatever pause and overlap say; it counts as open afterwards."""
    minutely(lab, overlap="skip", input={"x": 1})
    acts.pause(lab.ledger, "demo", "m", by="ann")
    first = acts.trigger(lab.ledger, "demo", "m", by="ann")
    second = acts.trigger(lab.ledger, "demo", "m", by="ann")
    assert first.created
    assert [one.step_key for one in first.dispatches] == ["a"]
    found = ticks(lab)
    assert [(one.kind, one.outcome, one.by, one.lag) for one in found] == [("manual", "started", "operator", None)] * 2
    assert [one.run_id for one in found] == [first.run_id, second.run_id]
    assert lab.run_row(first.run_id)["scheduled_for"] == found[0].scheduled_at
    assert lab.run_row(first.run_id)["trigger_body"] == {"x": 1}
    assert facts(lab) == {"actor": "ann", "run_id": str(second.run_id)}
    acts.resume(lab.ledger, "demo", "m", by="ann")
    at(lab, NOON + MINUTE)
    fire(lab)
    assert outcomes(lab)[-1] == (1, "skipped")


def test_a_trigger_does_not_take_the_time_of_a_tick(lab: Lab) -> None:
    minutely(lab)
    lab.execute(
        "CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE"
        " AS $$SELECT '2040-06-01T12:01:00Z'::timestamptz$$"
    )
    acts.trigger(lab.ledger, "demo", "m", by="ann")
    acts.trigger(lab.ledger, "demo", "m", by="ann")
    fire(lab)
    lab.forward(0)
    offsets = [(one.scheduled_at - NOON - MINUTE) / timedelta(microseconds=1) for one in ticks(lab)]
    assert offsets == [0, 1, 2]


def test_what_cannot_be_triggered_says_why(lab: Lab) -> None:
    at(lab, NOON)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    lab.flow(STEPS, triggers={"m": {**MINUTELY, "input": {"n": 1}}}, input_schema=schema)
    switch.disable(lab.ledger, "demo", "ann", "audit")
    with pytest.raises(FlowDisabled, match="audit"):
        acts.trigger(lab.ledger, "demo", "m", by="ann")
    switch.enable(lab.ledger, "demo", "ann")
    lab.execute("UPDATE flow_schedule_states SET definition = (definition::jsonb - 'input')::json")
    with pytest.raises(InputInvalid, match="required"):
        acts.trigger(lab.ledger, "demo", "m", by="ann")
    deploy(lab)
    with pytest.raises(Conflict, match="does not have schedule m"):
        acts.trigger(lab.ledger, "demo", "m", by="ann")
    assert ticks(lab) == []
    assert events(lab) == ["registered", "removed"]


# ---- switches ----


def test_a_disabled_flow_does_not_fire_and_goes_on_from_now(lab: Lab) -> None:
    minutely(lab)
    deploy(lab, version="2", m=MINUTELY, p={**MINUTELY, "paused": True})
    at(lab, NOON + MINUTE)
    version = row(lab).version
    switch.disable(lab.ledger, "demo", "ann")
    one = row(lab)
    assert (one.flow_enabled, one.live, one.next_tick_at) == (False, False, None)
    assert one.version > version
    assert outcomes(lab) == [(1, "missed")]
    at(lab, NOON + 5 * MINUTE)
    assert fire(lab).decided == 0
    acts.pause(lab.ledger, "demo", "m", by="ann")
    acts.resume(lab.ledger, "demo", "m", by="ann")
    deploy(lab, version="3", m={**MINUTELY, "input": {"x": 1}}, p={**MINUTELY, "paused": True})
    assert row(lab).next_tick_at is None
    switch.disable(lab.ledger, "demo", "ann")
    switch.enable(lab.ledger, "demo", "ann")
    assert row(lab).next_tick_at == NOON + 6 * MINUTE
    assert row(lab, "p").next_tick_at is None
    assert outcomes(lab) == [(1, "missed")]


def test_enabling_what_is_enabled_loses_nothing(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE)
    switch.enable(lab.ledger, "demo", "ann")
    assert fire(lab).decided == 1
