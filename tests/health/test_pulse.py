"""When a loop counts as one that hangs, and when not."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.observe import pulse as module
from orchestrator.observe.health import liveness
from orchestrator.observe.pulse import Pulse, Standing
from orchestrator.workers.supervised import Supervised
from tests.support.eventually import eventually


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(module, "monotonic", lambda: now.s)
    return now


@pytest.fixture
def pulse(clock: Any) -> Iterator[Pulse]:
    made = Pulse("loop", 60)
    made.begin()
    yield made
    made.end()


def test_a_turn_may_take_as_long_as_its_limit(pulse: Pulse, clock: Any) -> None:
    clock.s += 59
    assert not pulse.standing().hangs
    clock.s += 2
    assert pulse.standing().hangs
    assert pulse.standing().still_s == 61


def test_a_pause_is_no_standstill(pulse: Pulse, clock: Any) -> None:
    pulse.moved(3600)
    clock.s += 3650
    assert not pulse.standing().hangs
    clock.s += 11
    assert pulse.standing().hangs


def test_whoever_is_excused_does_not_hang(clock: Any) -> None:
    excused = Pulse("loop", 60, lambda: True)
    excused.moved()
    clock.s += 1000
    assert not excused.standing().hangs


def test_a_loop_that_lends_its_thread_need_not_move_meanwhile(pulse: Pulse, clock: Any) -> None:
    with pulse.lent():
        clock.s += 1000
        assert not pulse.standing().hangs
    assert pulse.standing().still_s == 0


def test_another_thread_lends_nothing(pulse: Pulse, clock: Any) -> None:
    """Steps of the other pools do not run on the thread that consumes: the loop must go on."""
    entered, leave = threading.Event(), threading.Event()

    def step() -> None:
        with pulse.lent():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=step)
    thread.start()
    entered.wait(30)
    clock.s += 61
    hangs = pulse.standing().hangs
    leave.set()
    thread.join()
    assert hangs
    assert pulse.standing().hangs, "its end is no sign of life of the loop either"


def test_the_answer_says_which_loop_hangs_and_since_when(pulse: Pulse, clock: Any) -> None:
    clock.s += 61
    answer = liveness([pulse.standing(), Standing("other", 1.0, 9.0)])
    assert answer.status == 503
    assert b'"status": "hanging", "hanging": {"loop": "' in answer.body


def test_a_supervised_loop_that_hangs_is_named_with_the_place() -> None:
    go_on, inside = threading.Event(), threading.Event()

    def stuck() -> float:
        inside.set()
        go_on.wait(60)
        return 60.0

    loop = Supervised("stuck", stuck, owner="test", limit_s=0.2)
    loop.start()
    inside.wait(30)
    try:
        found = eventually(lambda: [one for one in module.standings() if one.hangs])
        assert found is not None
        assert [one.name for one in found] == ["test-stuck"]
        assert "stuck (" in found[0].at
    finally:
        go_on.set()
    eventually(lambda: not any(one.hangs for one in module.standings()))
    loop.end()
    loop.join(10)
    assert module.standings() == []


def test_a_loop_that_fails_again_and_again_does_not_hang() -> None:
    """That is what a loop without its server does."""
    failures: list[int] = []

    def fail() -> float:
        failures.append(1)
        raise ConnectionError

    loop = Supervised("fails", fail, owner="test", limit_s=2.0)
    loop.start()
    while len(failures) < 4:
        assert not any(one.hangs for one in module.standings())
        loop.join(0.02)
    loop.end()
    loop.join(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_loop_whose_thread_died_hangs() -> None:
    def die() -> float:
        raise KeyboardInterrupt

    loop = Supervised("dies", die, owner="test", limit_s=0.1)
    loop.start()
    loop.join(30)
    try:
        found = eventually(lambda: [one for one in module.standings() if one.hangs])
        assert found is not None
        assert found[0].at == "its thread has ended"
    finally:
        loop.pulse.end()
