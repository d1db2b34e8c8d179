"""One sentence says why a schedule has not fired and when it will."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.core.facts import Explanation, WorkerInfo
from orchestrator.engine.flows import switch
from orchestrator.engine.schedules import operate, tick
from orchestrator.engine.schedules.explain_schedule import explain, spoken
from orchestrator.engine.schedules.fired import Fired
from orchestrator.errors import FlowNotFound, ScheduleNotFound
from orchestrator.ledger import workers
from tests.support.factories import Lab, call

HISTORY = "orchestrator schedule history demo/k"


def deploy(lab: Lab, *, steps: Any = None, **trigger: Any) -> None:
    """The flow `demo` with an hourly schedule `k`; without any when there is nothing to say of it."""
    given = {"type": "every", "interval": "PT1H", **trigger} if trigger.pop("there", True) else None
    lab.flow(steps or {"a": call()}, triggers={"k": given} if given else {})


def full_hour(lab: Lab) -> datetime:
    """The clock is a second after the next full hour, and what is due is decided."""
    now = lab.now()
    hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    lab.forward(hour + timedelta(seconds=1) - now)
    return hour


def fired(lab: Lab) -> Fired:
    return tick.fire(lab.ledger, by="beat")


def told(lab: Lab) -> Explanation:
    return explain(lab.ledger, "demo", "k")


def utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def test_a_schedule_that_has_not_fired_yet(lab: Lab) -> None:
    deploy(lab)
    found = told(lab)
    assert found.sentence.startswith(
        "Schedule demo/k has not fired yet, because no time of it has come; it fires next "
    )
    assert found.command == "orchestrator schedule preview demo/k"


def test_one_that_starts_later(lab: Lab) -> None:
    start = lab.now().replace(minute=0, second=0, microsecond=0) + timedelta(days=3)
    deploy(lab, start=start.isoformat())
    assert told(lab).sentence.startswith(
        f"Schedule demo/k has not fired yet, because it starts {utc(start)}; it fires next {utc(start)}, in "
    )


def test_one_that_fired(lab: Lab) -> None:
    deploy(lab)
    hour = full_hour(lab)
    (run_id,) = fired(lab).started
    found = told(lab)
    assert found.sentence.startswith(f"Schedule demo/k fired last for {utc(hour)}, ")
    assert (
        f" late as run {run_id} (pending); it fires next {utc(hour + timedelta(hours=1))}, in 59 min" in found.sentence
    )
    assert found.command == f"orchestrator run explain {run_id}"
    lab.do(run_id, "a")
    assert told(lab).command == f"orchestrator run show {run_id}"


def test_one_whose_run_was_removed_by_retention(lab: Lab) -> None:
    deploy(lab)
    full_hour(lab)
    (run_id,) = fired(lab).started
    lab.do(run_id, "a")
    lab.execute("DELETE FROM flow_events; DELETE FROM flow_outputs; DELETE FROM flow_step_attempts")
    lab.execute("DELETE FROM flow_step_claims; DELETE FROM flow_step_dispatches; DELETE FROM flow_steps")
    lab.execute("DELETE FROM flow_run_controls; DELETE FROM flow_runs")
    found = told(lab)
    assert "fired last for" in found.sentence
    assert str(run_id) not in found.sentence
    assert found.command == HISTORY


def test_a_paused_one(lab: Lab) -> None:
    deploy(lab)
    operate.pause(lab.ledger, "demo", "k", by="ann", reason="bad data")
    lab.forward(timedelta(hours=5))
    found = told(lab)
    assert found.sentence.startswith(
        "Schedule demo/k does not fire, because ann paused it 5 h ago (bad data); once it is resumed it fires at its "
        "next time, "
    )
    assert found.command == "orchestrator schedule resume demo/k"


def test_one_that_its_code_pauses(lab: Lab) -> None:
    deploy(lab, paused=True)
    assert told(lab).sentence.startswith(
        "Schedule demo/k does not fire, because its code says `paused`; once it is resumed"
    )


def test_one_of_a_disabled_flow(lab: Lab) -> None:
    deploy(lab)
    switch.disable(lab.ledger, "demo", "ann", "moving house")
    found = told(lab)
    assert "because flow demo was disabled by ann (moving house); once it is enabled it fires at its" in found.sentence
    assert found.command == "orchestrator flow enable demo"


def test_one_that_the_code_has_no_more(lab: Lab) -> None:
    deploy(lab)
    hour = full_hour(lab)
    fired(lab)
    deploy(lab, there=False)
    found = told(lab)
    assert found.sentence == (
        f"Schedule demo/k never fires: the current version of flow demo does not have it, it last fired {utc(hour)}."
    )


def test_one_that_ended(lab: Lab) -> None:
    end = lab.now().replace(minute=30, second=0, microsecond=0) + timedelta(hours=1)
    deploy(lab, end=end.isoformat())
    hour = full_hour(lab)
    fired(lab)
    lab.forward(timedelta(hours=3))
    fired(lab)
    found = told(lab)
    assert found.sentence.startswith(f"Schedule demo/k will not fire again: it ended {utc(end)}; it last fired ")
    assert hour <= end


def test_one_that_is_due_and_nobody_decides(lab: Lab) -> None:
    deploy(lab)
    hour = full_hour(lab)
    lab.forward(timedelta(seconds=4))
    found = told(lab)
    assert found.sentence == (
        f"Schedule demo/k has been due since {utc(hour)}, 5 s ago, and has not fired: no worker is live, and workers "
        "decide ticks; the first one that starts decides it."
    )
    assert found.command == "orchestrator worker --flows YOUR_MODULE"
    work = WorkerInfo("w1", "host", 1, "threads", 1, 1, ("default",), ("demo.work",), "1")
    with lab.ledger.tx() as tx:
        workers.hello(tx, work)
    assert "the beat did not announce it in time; a worker decides it within 10s." in told(lab).sentence
    lab.forward(timedelta(seconds=25))
    found = told(lab)
    assert "1 worker is live and has not decided it" in found.sentence
    assert found.command == "orchestrator doctor"


def test_one_that_skipped(lab: Lab) -> None:
    deploy(lab, overlap="skip")
    full_hour(lab)
    fired(lab)
    hour = full_hour(lab)
    fired(lab)
    assert told(lab).sentence.startswith(
        f"Schedule demo/k skipped {utc(hour)}, because an earlier run of it was open; it fires next "
    )


def test_one_that_waits_for_its_predecessor(lab: Lab) -> None:
    deploy(lab, overlap="queue")
    full_hour(lab)
    (run_id,) = fired(lab).started
    hour = full_hour(lab)
    fired(lab)
    found = told(lab)
    assert found.sentence.startswith(
        f"Schedule demo/k holds the tick of {utc(hour)} back, because run {run_id} is open; it fires next "
    )
    assert found.command == f"orchestrator run explain {run_id}"


def test_one_that_missed(lab: Lab) -> None:
    deploy(lab, missed="skip")
    first = full_hour(lab)
    lab.forward(timedelta(hours=2, minutes=10))
    fired(lab)
    assert told(lab).sentence.startswith(
        f"Schedule demo/k missed {utc(first + timedelta(hours=2))} and 2 before it, because nobody decided it in time, "
        "and `missed` is skip; it fires next "
    )


def test_one_whose_input_is_refused(lab: Lab) -> None:
    """Registration refuses it; a row that an older release wrote may still be so."""
    deploy(lab)
    lab.execute("""UPDATE flow_schedule_states SET definition = definition::jsonb || '{"input": {"n": "x"}}'""")
    lab.flow(
        {"a": call()},
        triggers={"k": {"type": "every", "interval": "PT1H", "input": {"n": 1}}},
        input_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
    )
    lab.execute("""UPDATE flow_schedule_states SET definition = definition::jsonb || '{"input": {"n": "x"}}'""")
    full_hour(lab)
    assert fired(lab).started == ()
    found = told(lab)
    assert found.sentence.startswith("Schedule demo/k did not fire at its last time, because ")
    assert "input" in found.sentence
    assert found.command == HISTORY


def test_one_that_this_machine_cannot_read(lab: Lab) -> None:
    deploy(lab)
    lab.execute(
        """UPDATE flow_schedule_states
              SET definition = '{"type": "cron", "expression": "0 7 * * *", "zone": "Mars/Base"}'"""
    )
    found = told(lab)
    assert found.sentence == (
        "Schedule demo/k does not fire where it cannot be read, as here: There is no time zone `Mars/Base`. "
        "Fix: install the release that registered it, and the newest `tzdata`."
    )
    full_hour(lab)
    fired(lab)
    assert told(lab).command == HISTORY


def test_one_that_waits_for_its_jitter(lab: Lab) -> None:
    deploy(lab, jitter="PT59M")
    full_hour(lab)
    (row,) = lab.rows("SELECT next_tick_at, due_at FROM flow_schedule_states")
    assert row["next_tick_at"] < lab.now() < row["due_at"]
    found = told(lab).sentence
    assert "; it fires in " in found
    assert found.endswith(f" for {utc(row['next_tick_at'])}, by its jitter.")


def test_one_whose_tick_is_tried_again(lab: Lab) -> None:
    """Something was wrong with the decision itself."""
    deploy(lab)
    full_hour(lab)
    lab.execute(
        """UPDATE flow_schedule_states SET due_at = flow_now() + interval '20 s',
                  error = '{"type": "KeyError", "message": "x"}', error_at = flow_now()"""
    )
    assert told(lab).sentence == (
        "Schedule demo/k did not fire at its last time, because KeyError: x; it is tried again in 20 s."
    )


def test_unknown_ones(lab: Lab) -> None:
    deploy(lab)
    with pytest.raises(FlowNotFound):
        explain(lab.ledger, "dem", "k")
    with pytest.raises(ScheduleNotFound):
        explain(lab.ledger, "demo", "x")


def test_moments_are_spoken_on_the_wall_and_in_utc() -> None:
    at = datetime(2026, 3, 29, 23, 30, tzinfo=UTC)
    assert spoken(at, "UTC") == "2026-03-29 23:30 UTC"
    assert spoken(at, "Europe/Paris") == "2026-03-30 01:30 Europe/Paris (2026-03-29 23:30 UTC)"
    assert spoken(at.replace(hour=5, second=7), "Europe/Paris") == "2026-03-29 07:30:07 Europe/Paris (05:30:07 UTC)"
