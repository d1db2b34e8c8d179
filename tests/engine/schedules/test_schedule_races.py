"""Schedules with several at once: each tick is decided once, whoever asks and whatever changes meanwhile."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.flows import switch
from orchestrator.engine.schedules import operate as acts
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.errors import FlowDisabled
from orchestrator.ledger import statements
from orchestrator.ledger.ticks import Span
from tests.support.eventually import eventually
from tests.support.factories import Lab, call, mutate
from tests.support.schedules import (
    MINUTE,
    MINUTELY,
    NOON,
    at,
    check,
    check_nothing_lost,
    deploy,
    end_runs,
    fire,
    minutely,
    outcomes,
    row,
    tell,
    ticks,
)

SECONDLY = {"type": "every", "interval": "PT1S", "missed": "all"}


def beat(lab: Lab) -> Any:
    return tell(lab, row(lab).next_tick_at).fired


def test_two_who_fire_at_once_start_one_run(lab: Lab) -> None:
    """Thirty ticks, six sessions each: two beats, two watchdogs, two of another kind."""
    minutely(lab)
    for minute in range(1, 31):
        at(lab, NOON + minute * MINUTE)
        done = lab.race(*[lambda: beat(lab), lambda: fire(lab), lambda: tell(lab).fired] * 2)
        assert [each for each in done if isinstance(each, BaseException)] == []
        assert sum(each.decided for each in done) == 1
        assert sum(len(each.dispatches) for each in done) == 1
    assert outcomes(lab) == [(n, "started") for n in range(1, 31)]
    check(lab)
    check_nothing_lost(lab, NOON)


def test_without_its_cursor_a_tick_would_be_doubled(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant that holds the schedule whatever its cursor is, and does not look for a row of the tick."""
    hold = statements.sql("hold_undecided").replace("s.next_tick_at = u.cursor AND s.version = u.version", "TRUE")
    hold = hold.replace("SKIP LOCKED", "")
    decide = statements.sql("decide").replace(
        "ON CONFLICT (flow, trigger_key, scheduled_at) DO NOTHING",
        "ON CONFLICT (flow, trigger_key, scheduled_at) DO UPDATE SET run_id = excluded.run_id",
    )
    mutate(monkeypatch, hold_undecided=hold, decide=decide)
    minutely(lab)
    at(lab, NOON + MINUTE)
    with lab.holding("SELECT 1 FROM flow_schedule_states FOR UPDATE"):
        both = [lab.later(lambda: fire(lab)) for _ in range(2)]
        eventually(lambda: lab.waiting_sessions() == 2, message="they do not meet")
    assert sum(len(each.result().started) for each in both) == 2
    with pytest.raises(AssertionError):
        check(lab)


def test_a_page_that_two_keepers_read_is_decided_once(lab: Lab) -> None:
    at(lab, NOON)
    deploy(lab, **{f"k{n}": MINUTELY for n in range(40)})
    for minute in range(1, 4):
        at(lab, NOON + minute * MINUTE)

        def drain() -> int:
            return sum(each.decided for each in iter(lambda: fire(lab, page=7), Fired()))

        done = lab.race(drain, drain, drain)
        left = drain()
        assert sum(done) + left == 40
    check(lab)


def test_who_holds_a_schedule_is_not_waited_for(lab: Lab) -> None:
    minutely(lab)
    at(lab, NOON + MINUTE)
    with lab.holding("SELECT 1 FROM flow_schedule_states FOR UPDATE"):
        assert fire(lab) == Fired()
    assert fire(lab).decided == 1


@pytest.mark.parametrize("change", ["edit", "override", "pause", "disable", "remove"])
def test_a_change_beside_a_due_tick(lab: Lab, change: str) -> None:
    """The tick was started by the old rule, or is written down as missed; never both, never neither."""
    acts_: dict[str, Callable[[], Any]] = {
        "edit": lambda: deploy(lab, version="2", steps={"b": call()}, m={"type": "cron", "expression": "0 0 * * *"}),
        "override": lambda: acts.set_cron(lab.ledger, "demo", "m", "0 0 * * *", by="op"),
        "pause": lambda: acts.pause(lab.ledger, "demo", "m", by="op"),
        "disable": lambda: switch.disable(lab.ledger, "demo", "op"),
        "remove": lambda: deploy(lab),
    }
    seen = set()
    for _ in range(15):
        lab.reset()
        minutely(lab)
        at(lab, NOON + MINUTE)
        done = lab.race(lambda: fire(lab), acts_[change], lambda: beat(lab))
        assert [each for each in done if isinstance(each, BaseException)] == []
        (found,) = ticks(lab)
        assert found.scheduled_at == NOON + MINUTE
        seen.add(found.outcome)
        check(lab)
        if found.run_id is not None:
            assert lab.ready(found.run_id) == ["a"], "the old tick ran by the new code"
    assert seen <= {"started", "missed"}


def test_everything_at_once(lab: Lab) -> None:
    """Beats, watchdogs, triggers, edits, switches, pauses and backfills for 60 ticks of a second each, or as many more
    as it takes on a busy machine until each of them came through.

    Afterwards each started tick has its one run, each run of the schedule its one tick, and the counters agree.
    """
    at(lab, NOON)
    deploy(lab, m=SECONDLY)
    done = threading.Event()
    failures: list[BaseException] = []
    kinds = {"cron", "manual", "backfill"}

    def again(work: Callable[[int], Any]) -> Callable[[], None]:
        def loop() -> None:
            count = 0
            while not done.is_set():
                count += 1
                try:
                    work(count)
                except FlowDisabled:
                    pass
                except BaseException as exc:
                    failures.append(exc)
                    return

        return loop

    def edit(count: int) -> None:
        deploy(lab, version=str(count), steps={f"s{count % 3}": call()}, m={**SECONDLY, "overlap": overlaps[count % 4]})

    overlaps = ["allow", "skip", "queue", "cancel"]

    def pause(count: int) -> None:
        acts.pause(lab.ledger, "demo", "m", by="op")
        acts.resume(lab.ledger, "demo", "m", by="op")

    def switching(count: int) -> None:
        switch.disable(lab.ledger, "demo", "op")
        switch.enable(lab.ledger, "demo", "op")

    def backfilling(count: int) -> None:
        acts.backfill(
            lab.ledger, "demo", "m", Span(NOON - 5 * count * MINUTE, NOON - (5 * count - 1) * MINUTE), by="op"
        )
        tick.waiting(lab.ledger)

    def clock() -> None:
        other = Lab(lab.url, lab.another(name="clock"), offset_s=lab.offset_s)
        try:
            for seconds in itertools.count(1):
                other.forward(1)
                done.wait(0.05)
                if failures or (seconds >= 60 and seconds % 10 == 0 and kinds <= {one.kind for one in ticks(lab)}):
                    return
        finally:
            lab.offset_s = other.offset_s
            done.set()
            other.close()

    works = [lambda _: beat(lab), lambda _: fire(lab), lambda _: acts.trigger(lab.ledger, "demo", "m", by="op")]
    works += [edit, pause, switching, backfilling]
    lab.race(clock, *(again(work) for work in works))
    assert failures == []
    check(lab)
    assert kinds == {one.kind for one in ticks(lab)}
    switch.enable(lab.ledger, "demo", "op")
    acts.resume(lab.ledger, "demo", "m", by="op")
    at(lab, row(lab).now + timedelta(seconds=3))
    assert fire(lab).decided > 0
    check(lab)


def test_a_cancel_beside_the_end_of_the_run(lab: Lab) -> None:
    """`overlap: cancel` meets the run as it ends: the tick starts all the same."""
    minutely(lab, overlap="cancel")
    at(lab, NOON + MINUTE)
    (before,) = fire(lab).started
    for minute in range(2, 17):
        at(lab, NOON + minute * MINUTE)
        lease = lab.take(before, "a")
        fired, _ = lab.race(lambda: fire(lab), lambda lease=lease: lab.done(lease))
        (before,) = fired.started
    end_runs(lab, [before])
    check(lab)


def test_two_keepers_advance_backfills_once(lab: Lab) -> None:
    minutely(lab)
    acts.backfill(lab.ledger, "demo", "m", Span(NOON - 30 * MINUTE, NOON, max_parallel=4), by="op")
    opened = 0
    while True:
        done = lab.race(*[lambda: tick.waiting(lab.ledger)] * 3)
        started = [run_id for each in done for run_id in each.started]
        if not started and lab.rows("SELECT 1 FROM flow_schedule_backfills WHERE ended_at IS NOT NULL"):
            break
        assert len(started) <= 4
        opened += len(started)
        end_runs(lab, started)
    assert opened == 30
    check(lab)


CHILD = textwrap.dedent("""
    import os, signal, sys
    from orchestrator.engine import faults
    from orchestrator.engine.schedules import tick
    from orchestrator.ledger.tx import Ledger
    ledger = Ledger.connect(sys.argv[1], name="doomed")
    faults.arm(sys.argv[2], lambda: os.kill(os.getpid(), signal.SIGKILL))
    tick.fire(ledger, by="beat")
    tick.waiting(ledger)
""")


@pytest.mark.parametrize("point", ["tick.selected", "tick.decided", "tick.committed"])
def test_kill_nine_at_every_moment_of_a_tick(lab: Lab, point: str) -> None:
    """Another process goes on; what died held nothing back for longer than the server needs to see it dead."""
    minutely(lab, missed="all")
    for minute in (1, 2, 3):
        at(lab, NOON + minute * MINUTE)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        died = subprocess.run([sys.executable, "-c", CHILD, lab.url, point], env=environment, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        eventually(lambda n=minute: fire(lab).decided or len(ticks(lab)) == n, message="the tick is lost")
    assert outcomes(lab) == [(n, "started") for n in (1, 2, 3)]
    check(lab)
    check_nothing_lost(lab, NOON)
