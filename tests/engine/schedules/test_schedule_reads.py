"""What people and tickers read of schedules."""

from datetime import timedelta

import pytest

from orchestrator.core.states import RunStatus
from orchestrator.engine.flows import switch
from orchestrator.engine.schedules import operate as acts
from orchestrator.errors import FlowNotFound, ScheduleNotFound
from orchestrator.ledger import schedules
from tests.support.factories import Lab
from tests.support.schedules import (
    HOURLY,
    MINUTE,
    MINUTELY,
    NOON,
    at,
    deploy,
    end_runs,
    fire,
    minutely,
    tell,
    ticks,
)

pytestmark = pytest.mark.usefixtures("checked")


def test_unknown_names_are_told_with_the_nearest(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, nightly=HOURLY)
    for change in (acts.pause, acts.resume, acts.trigger, acts.reset):
        with pytest.raises(ScheduleNotFound, match="did you mean `nightly`"):
            change(lab.ledger, "demo", "nihgtly", by="ann")
        with pytest.raises(FlowNotFound, match="did you mean `demo`"):
            change(lab.ledger, "dmeo", "nightly", by="ann")
    with pytest.raises(ScheduleNotFound, match="use one of `nightly`"):
        acts.set_cron(lab.ledger, "demo", "xyz", "* * * * *", by="ann")
    with pytest.raises(ScheduleNotFound), lab.ledger.tx() as tx:
        schedules.schedule(tx, "demo", "xyz")


def test_rows_are_listed_by_name(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, name="two", b=HOURLY, a=MINUTELY)
    deploy(lab, name="one", c=HOURLY)
    with lab.ledger.tx() as tx:
        assert [one.name for one in schedules.schedules(tx)] == ["one/c", "two/a", "two/b"]
        assert [one.name for one in schedules.schedules(tx, "two")] == ["two/a", "two/b"]
        assert schedules.schedules(tx, "three") == []


def test_the_mirror_tells_what_changed(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, name="one", m=MINUTELY)
    deploy(lab, name="two", m=HOURLY, p={**HOURLY, "paused": True})

    def changed(since: int) -> dict[str, bool]:
        with lab.ledger.tx() as tx:
            return {one.name: one.enabled for one in schedules.mirror(tx, since)}

    def point() -> int:
        with lab.ledger.tx() as tx:
            return schedules.mirror_version(tx)

    assert changed(0) == {"one/m": True, "two/m": True, "two/p": False}
    for change, expected in (
        (lambda: acts.pause(lab.ledger, "one", "m", by="ann"), {"one/m": False}),
        (lambda: acts.resume(lab.ledger, "one", "m", by="ann"), {"one/m": True}),
        (lambda: acts.set_cron(lab.ledger, "two", "m", "5 * * * *", by="ann"), {"two/m": True}),
        (lambda: acts.reset(lab.ledger, "two", "m", by="ann"), {"two/m": True}),
        (lambda: switch.disable(lab.ledger, "two", "ann"), {"two/m": False, "two/p": False}),
        (lambda: switch.enable(lab.ledger, "two", "ann"), {"two/m": True}),
        (lambda: deploy(lab, name="one"), {"one/m": False}),
        (lambda: deploy(lab, name="one", m=MINUTELY), {"one/m": True}),
    ):
        since = point()
        assert changed(since) == {}
        change()
        assert changed(since).items() >= expected.items()
    since = point()
    at(lab, NOON + MINUTE)
    fire(lab)
    assert changed(since) == {}, "a tick is no change"


def test_the_mirror_misses_no_change_that_commits_late(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, name="one", m=MINUTELY)
    deploy(lab, name="two", m=MINUTELY)
    held = "UPDATE flow_schedule_states SET version = pg_current_xact_id()::text::bigint WHERE flow = 'one'"
    with lab.holding(held):
        acts.pause(lab.ledger, "two", "m", by="ann")
        with lab.ledger.tx() as tx:
            since = schedules.mirror_version(tx)
    with lab.ledger.tx() as tx:
        assert [one.name for one in schedules.mirror(tx, since)] == ["one/m", "two/m"]


def test_lag_is_told_of_all_of_a_flow_and_of_one(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, m=MINUTELY, other=MINUTELY)
    with lab.ledger.tx() as tx:
        assert schedules.lag(tx) == schedules.Lag(0, None, None)
    at(lab, NOON + MINUTE)
    tell(lab)
    at(lab, NOON + MINUTE + timedelta(seconds=20))
    fire(lab)
    with lab.ledger.tx() as tx:
        whole, flow, one = schedules.lag(tx), schedules.lag(tx, "demo"), schedules.lag(tx, "demo", "other")
    assert (whole.count, one.count) == (2, 1)
    assert whole == flow
    assert whole.p50 is not None
    assert whole.p50 < timedelta(seconds=5)
    assert one.p50 is not None
    assert timedelta(seconds=20) <= one.p50 < timedelta(seconds=25)


def test_a_tick_tells_how_its_run_stands(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE)
    (run_id,) = fire(lab).started
    assert ticks(lab)[0].run_status == RunStatus.PENDING
    end_runs(lab, [run_id])
    assert ticks(lab)[0].run_status == RunStatus.SUCCEEDED
