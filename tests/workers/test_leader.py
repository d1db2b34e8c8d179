"""One worker does the duties of the cluster; another one takes over from one that ended, sleeps or steps back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from statistics import mean

import pytest

from orchestrator.ledger import workers
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.keeper.leader import Leader
from orchestrator.workers.state import state_of
from tests.support.eventually import eventually
from tests.workers.conftest import Bench

TTL = timedelta(seconds=30)


@pytest.fixture
def leader(bench: Bench) -> Iterator[Callable[[], Leader]]:
    """Another worker's."""
    with ExitStack() as stack:

        def make() -> Leader:
            state = state_of(make_app(bench.settings, {}))
            stack.callback(state.close)
            made = Leader(state)
            stack.callback(made.close)
            return made

        yield make


def test_one_leads_and_the_next_takes_over_when_it_ends(leader: Callable[[], Leader]) -> None:
    one, other = leader(), leader()
    one.turn()
    other.turn()
    assert (one.leads, other.leads) == (True, False)
    one.turn()
    assert one.leads
    one.close()
    other.turn()
    assert (one.leads, other.leads) == (False, True)


def test_a_sleeping_leader_leads_no_longer(leader: Callable[[], Leader]) -> None:
    """PostgreSQL ends its transaction; its own clock tells it as soon as it wakes."""
    one, other = leader(), leader()
    one.turn()

    def taken_over() -> bool:
        other.turn()
        return other.leads

    eventually(taken_over, timeout=60, message="the other leads")
    assert not one.leads
    with pytest.raises(Exception, match=r"idle-in-transaction|closed"):
        one.turn()
    assert not one.leads
    one.turn()
    assert (one.leads, other.leads) == (False, True)


def test_a_leader_that_lost_its_connection_asks_again(bench: Bench, leader: Callable[[], Leader]) -> None:
    one = leader()
    one.turn()
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    with pytest.raises(Exception, match=r"terminat|closed"):
        one.turn()
    assert not one.leads
    one.turn()
    assert one.leads


def test_who_steps_back_goes_on_until_somebody_else_leads(leader: Callable[[], Leader]) -> None:
    """A release that cannot read a run leaves it to another one, if there is one, and never leaves nobody."""
    one, other = leader(), leader()
    one.turn()
    one.resign()
    one.turn()
    assert one.leads
    other.turn()
    one.turn()
    assert (one.leads, other.leads) == (False, True)
    other.resign()
    other.turn()
    other.turn()  # nobody asked meanwhile
    assert other.leads


def test_who_steps_back_asks_again_after_every_other_one(leader: Callable[[], Leader]) -> None:
    """Or it would lead again, and the only worker that can read a run would wait for its turn by chance."""
    one, other = leader(), leader()
    one.turn()
    one.resign()
    stepped_back_s = one.turn()
    assert max(other._stand_by() for _ in range(100)) < stepped_back_s
    other._others = 20
    assert max(other._stand_by() for _ in range(100)) < stepped_back_s


def test_the_lock_ends_with_its_transaction(bench: Bench) -> None:
    """A session's lock could stay behind on a pooler's connection, and nobody would lead again."""
    with bench.ledger.tx() as tx:
        assert workers.lead(tx, 10, TTL).taken
        with bench.ledger.auto() as beside:
            assert not workers.lead(beside, 10, TTL).taken
    with bench.ledger.auto() as after:
        assert workers.lead(after, 10, TTL).taken
        assert workers.lead(after, 10, TTL).taken


@pytest.mark.parametrize(("others", "turns"), [(1, 1), (3, 3), (19, 4)])
def test_those_who_stand_by_take_turns(bench: Bench, leader: Callable[[], Leader], others: int, turns: int) -> None:
    """However many they are, the lock is asked for by one of them soon, and by each within a bounded time."""
    with bench.ledger.tx() as tx:
        for number in range(others + 1):
            tx.exec_driver_sql(
                "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release)"
                f" VALUES ('h/{number}/x', 'h', {number}, 'threads', 1, 1, '{{}}', '{{}}', '1')"
            )
    first, second = leader(), leader()
    pauses = []
    for _ in range(100):
        first.turn()
        pauses.append(second.turn() / second.ask_s)
    assert first.leads
    assert not second.leads
    assert turns / 2 <= min(pauses) <= max(pauses) <= 1.5 * turns
    assert mean(pauses) == pytest.approx(turns, rel=0.15)
