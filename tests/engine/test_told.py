"""What observers are told of ticks and waits, after the commit."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.core.happened import Fact, Ticked, Waited
from orchestrator.engine.signals import deliver
from orchestrator.observe import observer
from orchestrator.observe.uninterested import Uninterested
from tests.engine.test_signals import parked, send
from tests.support.factories import Lab
from tests.support.schedules import MINUTE, NOON, at, end_runs, fire, minutely


class Ear(Uninterested):
    def __init__(self) -> None:
        self.told: list[Fact] = []

    def ticked(self, fact: Ticked) -> None:
        self.told.append(fact)

    def waited(self, fact: Waited) -> None:
        self.told.append(fact)


@pytest.fixture
def told() -> Iterator[list[Any]]:
    ear = Ear()
    observer.listen(ear)
    yield ear.told
    observer.unlisten(ear)


def ticked(told: list[Any]) -> Counter[tuple[str, str]]:
    counted: Counter[tuple[str, str]] = Counter()
    for one in told:
        counted[one.outcome, one.by] += one.count
    return counted


def test_ticks_are_told_by_what_came_of_them_and_who_decided(lab: Lab, told: list[Any]) -> None:
    minutely(lab, overlap="skip")
    at(lab, NOON + MINUTE)
    first = fire(lab)
    assert ticked(told) == {("started", "watchdog"): 1}
    at(lab, NOON + 2 * MINUTE)
    fire(lab)
    assert ticked(told) == {("started", "watchdog"): 1, ("skipped", "watchdog"): 1}
    end_runs(lab, first.started)


def test_ticks_that_were_missed_are_told_with_their_number(lab: Lab, told: list[Any]) -> None:
    minutely(lab, missed="latest")
    at(lab, NOON + 10 * MINUTE)
    fired = fire(lab)
    assert ticked(told) == {("started", "watchdog"): 1, ("missed", "watchdog"): 9}
    end_runs(lab, fired.started)


def test_a_wait_that_a_signal_ended_is_told_with_its_length_and_one_that_came_early_is_not(
    lab: Lab, told: list[Any]
) -> None:
    run_id = parked(lab)
    with lab.ledger.auto() as tx:
        tx.exec_driver_sql("UPDATE flow_signal_waiters SET created_at = created_at - interval '90 s'")
    outcome = send(lab, run_id)
    assert isinstance(outcome, deliver.Outcome)
    (one,) = told
    assert 90 <= one.waited_s < 150
    send(lab, run_id, id="too late")
    assert len(told) == 1
