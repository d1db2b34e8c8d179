"""Real beats: one announces, the others stand by, and whoever dies at whatever moment, each tick is one run."""

import os
import signal
from time import monotonic

import pytest

from orchestrator.doctor import examine
from tests.schedules.conftest import Field
from tests.support.beat_process import Beat
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(300)
MOMENTS = ("beat.held", "beat.loaded", "beat.sent", "beat.advanced")
EACH = 'Every("1s"), key="e", missed="all"'


def about(ground: Field, check: str) -> tuple[str, str]:
    (found,) = [one for one in examine(ground.settings) if one.check == check]
    return found.status, found.finding


def test_ticks_are_on_time_and_become_runs_that_know_their_time(ground: Field) -> None:
    ground.plan(EACH, 'Every("1h"), key="rare", jitter="20m"', 'Cron("0 3 * * *", tz="Europe/Paris"), key="night"')
    assert about(ground, "beat")[0] == "warn"
    ground.worker()
    beat = ground.beat()
    ground.wait_ticks(8, "e", by="beat")
    ground.wait_punctual("e", within_s=0.5)
    beat.term()
    assert beat.wait() == 0
    verdict = ground.verdict("e")
    assert verdict.right, verdict
    late = verdict.late("beat")
    print(f"lag of {len(late)} ticks: median {late[len(late) // 2]:.3f} s, worst {late[-1]:.3f} s")
    started = {str(one.scheduled_at) for one in verdict.ticks}
    said = {row[0] for row in ground.query("SELECT output FROM flow_outputs WHERE step_key = 'note'")}
    assert len(said) >= 8
    assert said <= started


def test_the_entries_are_due_when_the_ledger_says(ground: Field) -> None:
    ground.plan('Every("1h"), key="rare", jitter="20m"', 'Cron("0 3 * * *", tz="Europe/Paris"), key="night"')
    ground.beat()
    want = {f"ticking/{row.trigger_key}": row.due_at.timestamp() for row in ground.rows() if row.due_at is not None}
    assert len(want) == 2
    eventually(lambda: ground.scores() == want, message="the entries are there")
    eventually(lambda: about(ground, "beat")[0] == "pass", message="doctor sees the beat")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_of_several_beats_one_announces(ground: Field, count: int) -> None:
    ground.plan(EACH)
    ground.worker()
    beats = [ground.beat() for _ in range(count)]
    ground.wait_ticks(8, "e", by="beat")
    assert sum(beat.leads for beat in beats) == 1
    verdict = ground.verdict("e")
    assert verdict.right, verdict
    assert ground.row("e").doubles == 0


def leader(beats: list[Beat]) -> tuple[Beat, Beat]:
    """Who leads, and who stands by."""
    first, second = beats
    eventually(lambda: first.leads != second.leads, message="one leads")
    return (first, second) if first.leads else (second, first)


def takes_over(ground: Field, standby: Beat, since: float) -> float:
    """Seconds until the standby leads, and has announced a tick."""
    eventually(lambda: standby.leads, message="the standby leads")
    ground.wait_ticks(1, "e", by="beat")
    return monotonic() - since


def test_a_killed_holder_is_followed_when_its_lock_runs_out(ground: Field) -> None:
    ground.plan(EACH)
    ground.worker()
    holder, standby = leader([ground.beat(), ground.beat()])
    ground.wait_ticks(3, "e", by="beat")
    holder.kill()
    took = takes_over(ground, standby, monotonic())
    print(f"failover after kill -9 with a lock of 3 s: {took:.1f} s")
    assert took < 30, "it does not wait for anything that is longer than the lock"
    ground.wait_ticks(3, "e", by="beat")
    verdict = ground.verdict("e")
    assert verdict.right, verdict


@pytest.mark.slow
def test_a_holder_that_slept_through_its_lock_stands_by(ground: Field) -> None:
    ground.plan(EACH)
    ground.worker()
    holder, standby = leader([ground.beat(), ground.beat()])
    ground.wait_ticks(3, "e", by="beat")
    holder.stop()
    took = takes_over(ground, standby, monotonic())
    print(f"failover after SIGSTOP with a lock of 3 s: {took:.1f} s")
    ground.wait_ticks(2, "e", by="beat")
    holder.cont()
    holder.wait_for("beat.lock_lost")
    ground.wait_ticks(3, "e", by="beat")
    assert (holder.leads, standby.leads) == (False, True)
    verdict = ground.verdict("e")
    assert verdict.right, verdict


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["kill", "stop"])
def test_a_holder_may_die_or_sleep_at_any_moment_of_a_tick(ground: Field, moment: str, kind: str) -> None:
    ground.plan(EACH)
    ground.worker()
    victim = ground.beat(ready=False, faults={moment: kind})
    eventually(lambda: (ground.folder / moment).exists(), message="it was struck")
    heir = ground.beat(ready=False)
    heir.wait_for("beat.leads")
    ground.wait_ticks(3, "e", by="beat")
    if kind == "stop":
        victim.cont()
        victim.wait_for("beat.lock_lost", "beat.stands_by")
        ground.wait_ticks(3, "e", by="beat")
        assert not victim.leads
    verdict = ground.verdict("e")
    assert verdict.right, verdict


@pytest.mark.slow
def test_a_supervised_beat_goes_on_at_once_after_its_process_died(ground: Field) -> None:
    """It takes over the lock of the one that has certainly ended."""
    ground.plan(EACH)
    ground.worker()
    beat = ground.beat(supervised=True)
    ground.wait_ticks(2, "e", by="beat")
    (child,) = beat.children()
    os.kill(child, signal.SIGKILL)
    since = monotonic()
    eventually(lambda: beat.log().count("beat.leads") == 2, message="the next one leads")
    ground.wait_ticks(2, "e", by="beat")
    print(f"a supervised beat announces again {monotonic() - since:.1f} s after its process was killed")
    beat.term()
    assert beat.wait() == 0
    verdict = ground.verdict("e")
    assert verdict.right, verdict


def test_a_beat_that_is_told_to_stop_gives_its_lock_back(ground: Field) -> None:
    ground.plan(EACH)
    slow = ground.settings.model_copy(update={"beat_lock": ground.settings.beat_lock * 100})
    holder, standby = leader([ground.beat(settings=slow), ground.beat(settings=slow)])
    holder.term()
    assert holder.wait() == 0
    standby.wait_for("beat.leads", timeout=60)  # the lock would have lasted for five minutes
    assert "Traceback" not in holder.log()
