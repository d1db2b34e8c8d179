"""What operators and deploys change reaches RedBeat within a reconcile, also while a tick is due."""

import pytest

from orchestrator.engine.flows import switch
from orchestrator.engine.schedules import operate
from tests.schedules.conftest import FLOW, Field
from tests.support.eventually import eventually

pytestmark = pytest.mark.slow
EACH = 'Every("1s"), key="e", missed="all"'
RARE = 'Every("1h"), key="rare"'


def mirrored(ground: Field, *keys: str) -> None:
    """Redis has the entries of these schedules and no others, each due when the ledger says."""
    want = {f"ticking/{key}" for key in keys}
    eventually(lambda: ground.scores().keys() == want, message=f"entries: {sorted(want)}")
    for key in keys:
        if key != "e":
            due = ground.row(key).due_at
            assert due is not None
            eventually(lambda key=key, due=due: ground.scores()[f"ticking/{key}"] == due.timestamp())  # type: ignore[misc]


def test_a_schedule_that_is_changed_paused_or_removed(ground: Field) -> None:
    ground.settings = ground.settings.model_copy(update={"reconcile_interval": ground.settings.beat_lock * 1000})
    ground.plan(RARE, 'Cron("0 3 * * *"), key="night"')
    ground.beat()
    mirrored(ground, "rare", "night")
    operate.set_cron(ground.ledger, FLOW, "night", "*/7 * * * *", zone="Asia/Kathmandu", by="ada")
    mirrored(ground, "rare", "night")
    operate.reset(ground.ledger, FLOW, "night", by="ada")
    mirrored(ground, "rare", "night")
    operate.pause(ground.ledger, FLOW, "rare", by="ada", reason="quiet")
    mirrored(ground, "night")
    operate.resume(ground.ledger, FLOW, "rare", by="ada")
    mirrored(ground, "rare", "night")
    switch.disable(ground.ledger, FLOW, "ada")
    mirrored(ground)
    switch.enable(ground.ledger, FLOW, "ada")
    mirrored(ground, "rare", "night")
    ground.plan('Every("2h"), key="rare"', 'Every("30m"), key="new"')
    mirrored(ground, "rare", "new")


def test_a_change_is_mirrored_whose_number_came_again_after_a_crash(ground: Field) -> None:
    """PostgreSQL gives numbers of transactions again that left nothing on its disk."""
    ground.settings = ground.settings.model_copy(update={"reconcile_interval": ground.settings.beat_lock * 1000})
    ground.plan(RARE)
    for _ in range(20):
        with ground.ledger.tx() as tx:
            tx.exec_driver_sql("SELECT pg_current_xact_id()")
    ground.beat()
    mirrored(ground, "rare")
    with ground.ledger.auto() as tx:
        tx.exec_driver_sql(
            "UPDATE flow_schedule_states SET due_at = due_at + interval '1 hour', version = version + 10"
        )
    mirrored(ground, "rare")


def test_a_schedule_that_is_edited_while_it_is_due_every_second(ground: Field) -> None:
    """Each scheduled time is one run or none, whichever side of the edit it fell on; and it fires again at once."""
    ground.plan(EACH)
    ground.worker()
    ground.beat()
    ground.wait_ticks(2, "e", by="beat")
    for act in (
        lambda: operate.set_cron(ground.ledger, FLOW, "e", "* * * * *", by="ada"),
        lambda: operate.reset(ground.ledger, FLOW, "e", by="ada"),
        lambda: operate.pause(ground.ledger, FLOW, "e", by="ada", reason="quiet"),
        lambda: operate.resume(ground.ledger, FLOW, "e", by="ada"),
        lambda: switch.disable(ground.ledger, FLOW, "ada"),
        lambda: switch.enable(ground.ledger, FLOW, "ada"),
    ):
        act()
        row = ground.row("e")
        if row.live and row.expression is None:
            ground.wait_ticks(2, "e", by="beat")
    verdict = ground.verdict("e")
    assert verdict.doubles == []
    assert verdict.unstarted == []
    times = [one.scheduled_at for one in verdict.ticks]
    assert len(times) == len(set(times))


def test_what_is_not_live_is_not_fired(ground: Field) -> None:
    ground.plan(EACH, 'Every("1s"), key="other"')
    ground.worker()
    ground.beat()
    ground.wait_ticks(2, "e", by="beat")
    operate.pause(ground.ledger, FLOW, "e", by="ada", reason="quiet")
    count = len(ground.ticks("e"))
    ground.wait_ticks(4, "other", by="beat")
    assert len(ground.ticks("e")) == count
