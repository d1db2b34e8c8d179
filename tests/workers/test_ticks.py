"""The keeper's loop of ticks: it takes what beats announce in batches, and forgets none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Event
from time import monotonic
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Dispatch, Swept
from orchestrator.engine import faults
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.schedules.message import Hint, send
from orchestrator.settings import Settings
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.keeper.duty import loop_of
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.keeper.ticks import Ticks
from orchestrator.workers.state import state_of
from tests.support.factories import Lab
from tests.support.schedules import MINUTELY, NOON, at, check, deploy, minutes, outcomes, row

FIRST = minutes(1)[0]
QUEUE = "orchestrator:default\x06\x163"


@dataclass
class Keeper:
    """One loop of a keeper, a beat's messages, and what was published."""

    settings: Settings
    app: Celery
    lab: Lab
    ticks: Ticks
    published: list[int] = field(default_factory=list)

    def announce(self, *hints: Hint) -> None:
        send(self.app, hints, self.settings.key_prefix)

    def take(self, until: Callable[[], Any]) -> int:
        """The loop's calls; how many of them the database ended."""
        ends, failed = monotonic() + 60.0, 0
        while not until():
            assert monotonic() < ends
            try:
                self.ticks.take()
            except DBAPIError as exc:
                failed += is_disconnect(exc)
        return failed

    def messages(self) -> int:
        with redis.Redis.from_url(self.settings.require_broker_url()) as client:
            return int(client.llen(QUEUE))

    def decided(self) -> int:
        return len(self.lab.rows("SELECT 1 FROM flow_schedule_ticks"))


@pytest.fixture
def keeper(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    app = make_app(settings, {})
    state = state_of(app)
    url = settings.require_database_url().replace("+psycopg", "")
    made = Keeper(settings, app, Lab(url, Ledger.connect(url, name="lab")), Ticks(state, Event()))
    publisher = state.runtime().publisher
    original = publisher.publish

    def publish(dispatches: list[Dispatch]) -> bool:
        if dispatches:
            made.published.append(len(dispatches))
        return original(dispatches)

    monkeypatch.setattr(publisher, "publish", publish)
    yield made
    faults.disarm()
    check(made.lab)
    made.ticks.close()
    state.close()
    made.lab.close()


def hints(count: int, planned: datetime = FIRST) -> list[Hint]:
    return [Hint("demo", f"k{number}", planned) for number in range(count)]


def due(keeper: Keeper, count: int, **options: Any) -> None:
    at(keeper.lab, NOON)
    deploy(keeper.lab, **{f"k{number}": {**MINUTELY, **options} for number in range(count)})
    at(keeper.lab, FIRST)


def test_what_is_announced_together_is_decided_and_published_in_batches(keeper: Keeper) -> None:
    due(keeper, 120)
    keeper.announce(*hints(120))
    keeper.take(lambda: keeper.decided() == 120)
    assert keeper.published == [50, 50, 20]
    assert keeper.messages() == 120
    keeper.announce(*hints(120))
    keeper.take(lambda: row(keeper.lab, "k119").doubles)
    assert {row(keeper.lab, f"k{number}").doubles for number in range(120)} == {1}
    assert keeper.messages() == 120


def test_a_worker_that_stops_takes_no_ticks_and_does_not_spin(keeper: Keeper) -> None:
    """A warm shutdown may take as long as its longest step."""
    state = state_of(keeper.app)
    state.shared.stop()
    calls = 0
    original = keeper.ticks.take

    def take() -> Swept:
        nonlocal calls
        calls += 1
        return original()

    loop = loop_of(replace(keeper.ticks.announced(), page=take), state, Leader(state))
    loop.start()
    loop.join(0.5)
    loop.end()
    loop.join(60)
    assert 1 <= calls <= 2


def test_a_hint_that_nobody_can_ask_for_stops_none_of_the_others(keeper: Keeper) -> None:
    """PostgreSQL takes no zero byte: the whole question fails, and then only the half with it."""
    due(keeper, 60)
    keeper.announce(Hint("de\0mo", "k", FIRST), *hints(60), Hint("demo", "\ud800", FIRST))
    keeper.take(lambda: keeper.decided() == 60)
    assert sum(keeper.published) == keeper.messages() == 60
    keeper.ticks.take()
    assert {row(keeper.lab, f"k{number}").doubles for number in range(60)} == {0}


@pytest.mark.parametrize(("number", "ticks"), [(120, 1), (3, 40)])
def test_nothing_is_forgotten_while_the_database_is_away(keeper: Keeper, number: int, ticks: int) -> None:
    """What was under way is asked again, and so is what is behind it, also of the same question; none is a double."""
    due(keeper, number, missed="all")
    at(keeper.lab, minutes(ticks)[0])
    count: list[int] = []

    def cut() -> None:
        count.append(1)
        if len(count) == 2:
            with psycopg.connect(keeper.lab.url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'orchestrator %' AND datname = current_database()"
                )

    faults.arm("tick.decided", cut)
    keeper.announce(*hints(number))
    assert keeper.take(lambda: keeper.decided() == 120) > 0
    assert sum(keeper.published) == keeper.messages() == 120
    assert {row(keeper.lab, f"k{each}").doubles for each in range(number)} == {0}


def test_a_long_outage_of_one_does_not_keep_the_others_waiting(keeper: Keeper) -> None:
    """A schedule of which more is due than one transaction starts goes behind the others, until nothing is left."""
    at(keeper.lab, NOON)
    secondly = {"type": "every", "interval": "PT1S", "missed": "all"}
    deploy(keeper.lab, long=secondly, **{f"k{number}": MINUTELY for number in range(60)})
    at(keeper.lab, NOON + timedelta(seconds=250))
    keeper.announce(Hint("demo", "long", NOON + timedelta(seconds=1)), *hints(60))
    keeper.take(lambda: len(outcomes(keeper.lab, "long")) == 250)
    assert keeper.published[0] == 100 + 49
    assert sum(keeper.published[:2]) > 100 + 60 - 1
    assert row(keeper.lab, "long").doubles == 0
    assert keeper.messages() == 250 + 60


def test_a_hint_that_comes_a_little_early_is_asked_again(keeper: Keeper) -> None:
    """Without another message."""
    at(keeper.lab, NOON)
    deploy(keeper.lab, **{f"k{number}": MINUTELY for number in range(3)})
    at(keeper.lab, FIRST - timedelta(milliseconds=400))
    keeper.announce(*hints(3))
    keeper.ticks.take()
    assert keeper.decided() == 0
    keeper.take(lambda: keeper.decided() == 3)
    assert keeper.messages() == 3
    assert {row(keeper.lab, f"k{number}").doubles for number in range(3)} == {0}


def test_what_is_left_to_a_newer_release_is_looked_for_now_and_then(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leads asks for another leader each time that it finds some, at first soon: there may be none of that
    release, or it leads last."""
    at(keeper.lab, NOON)
    deploy(keeper.lab, k=MINUTELY)
    at(keeper.lab, FIRST + timedelta(hours=1))
    keeper.lab.execute("UPDATE flow_definition_versions SET format = 99")
    now = 1_000.0
    monkeypatch.setattr("orchestrator.workers.keeper.ticks.monotonic", lambda: now)
    for pause_s in (1, 2, 4, 8, 16, 32, 60, 60):
        assert keeper.ticks.watch().unreadable
        now += pause_s - 0.1
        assert not keeper.ticks.watch().unreadable, "it rests"
        now += 0.1
    keeper.lab.execute("UPDATE flow_definition_versions SET format = 1")
    keeper.ticks.watch()
    assert keeper.decided() > 0
    keeper.lab.execute("UPDATE flow_definition_versions SET format = 99")
    keeper.lab.forward(timedelta(minutes=5))
    assert not keeper.ticks.watch().unreadable, "it found none a moment ago"
    now += 5
    assert [keeper.ticks.watch().unreadable for _ in range(2)] == [True, False]
