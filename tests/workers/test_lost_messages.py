"""What a keeper sends again, and what it leaves for later."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import WorkerInfo
from orchestrator.core.manifest import Manifest
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from orchestrator.engine.sweeps import redispatch
from orchestrator.ledger import dispatches
from orchestrator.workers.app.celery_app import make_app
from orchestrator.workers.keeper.lost_messages import LostMessages
from orchestrator.workers.state import state_of
from tests.workers import flows
from tests.workers.conftest import Bench

LATER = """
CREATE OR REPLACE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$SELECT clock_timestamp() + interval '10 s'$$
"""


def _dispatch(bench: Bench, run_id: UUID) -> Any:
    with bench.ledger.auto() as tx:
        return tx.exec_driver_sql(
            "SELECT published_at, publish_count FROM flow_step_dispatches WHERE run_id = %(run)s", {"run": run_id}
        ).one()


def test_nothing_counts_as_sent_while_the_publisher_rests(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message doubles the patience: an outage of Redis would be paid for long after its end."""
    state = state_of(make_app(bench.settings, {"chain": flows.chain}))
    lost = LostMessages(state)
    try:
        run_id = bench.start("chain", publish=False, n=1)
        with bench.ledger.auto() as tx:
            tx.exec_driver_sql(LATER)
        info = WorkerInfo("host/1/ab", "host", 1, "threads", 1, 1, ("default",), ("chain.add",), "test")
        workers.hello(bench.ledger, info)
        publisher = state.runtime().publisher
        monkeypatch.setattr(publisher, "_rest_until", float("inf"))
        lost.sweep()
        assert _dispatch(bench, run_id) == (None, 0)
        monkeypatch.setattr(publisher, "_rest_until", 0.0)
        lost.sweep()
        assert _dispatch(bench, run_id).publish_count == 1
    finally:
        lost.close()
        state.close()


def test_a_deep_list_is_counted_to_its_end_now_and_then(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to `WINDOW` steps are counted in each sweep: a list that is at least as long keeps its workers busy."""
    monkeypatch.setattr(redispatch, "WINDOW", 3)
    state = state_of(make_app(bench.settings, {"chain": flows.chain}))
    lost = LostMessages(state)
    try:
        run_ids = bench.start_many("chain", [{"n": 1}] * 6)
        bench.publisher.close()  # it has noted what it sent
        with bench.ledger.auto() as tx:
            tx.exec_driver_sql(LATER)
        info = WorkerInfo("host/1/ab", "host", 1, "threads", 1, 1, ("default",), ("chain.add",), "test")
        workers.hello(bench.ledger, info)
        channel = lost._channel()
        key = channel._q_for_pri("default", 5)

        def sent_again() -> list[int]:
            lost.sweep()
            return sorted(_dispatch(bench, run_id).publish_count for run_id in run_ids)

        assert sent_again() == [1] * 6, "nothing is missing"
        channel.client.rpop(key)
        assert sent_again() == [1] * 6, "the list is deep, and was counted a moment ago"
        lost._recount = 0.0
        assert sent_again() == [1] * 5 + [2]
        assert channel.client.llen(key) == 6
        for _ in range(4):
            channel.client.rpop(key)
        assert sent_again() == [1] * 4 + [2] * 2, "a list that is short of what is counted is known to lack some"
    finally:
        lost.close()
        state.close()


def parked(bench: Bench, count: int) -> None:
    """Ready steps that no worker has the code of."""
    register.register(bench.ledger, Manifest(name="parked", steps={"a": {"type": "gone"}}))
    for _ in range(count):
        bench.start("parked", publish=False)


@pytest.fixture
def lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[LostMessages]:
    """A look at three steps at a time."""
    monkeypatch.setattr(redispatch, "WINDOW", 3)
    monkeypatch.setattr(dispatches, "WINDOW", 3)
    state = state_of(make_app(bench.settings, {"chain": flows.chain}))
    made = LostMessages(state)
    yield made
    made.close()
    state.close()


def wait_ten_seconds(bench: Bench) -> None:
    """Then a worker that has the chain comes."""
    with bench.ledger.auto() as tx:
        tx.exec_driver_sql(LATER)
    info = WorkerInfo("host/1/ab", "host", 1, "threads", 1, 1, ("default",), ("chain.add",), "test")
    workers.hello(bench.ledger, info)


def test_what_nobody_can_run_hides_no_lost_message(bench: Bench, lost: LostMessages) -> None:
    """Each sweep looks at a bounded part of the list, on from where the one before ended, and then from its beginning:
    whatever is lost is found within one way through it."""
    parked(bench, 5)
    between = bench.start("chain", publish=False, n=1)
    parked(bench, 5)
    last = bench.start("chain", publish=False, n=1)
    wait_ten_seconds(bench)
    found = []
    for _ in range(5):
        lost.sweep()
        found.append(tuple(_dispatch(bench, run_id).publish_count for run_id in (between, last)))
    assert found == [(0, 0), (1, 0), (1, 0), (1, 1), (1, 1)]
    assert not lost._searches, "the next sweep begins with the oldest"


def test_a_search_of_a_deep_list_goes_on(bench: Bench, lost: LostMessages) -> None:
    """How much it lacks is known once in ten minutes. The sweeps between them look for it to the end of the list."""
    parked(bench, 7)
    missing = bench.start("chain", publish=False, n=1)
    bench.start_many("chain", [{"n": 1}] * 6)
    bench.publisher.close()  # it has noted what it sent
    wait_ten_seconds(bench)
    key = lost._channel()._q_for_pri("default", 5)
    for _ in range(3):
        assert lost._channel().client.llen(key) >= redispatch.WINDOW, "the list is deep"
        lost.sweep()
    assert _dispatch(bench, missing).publish_count == 1
    for _ in range(3):
        lost.sweep()
    assert not lost._searches, "it ends with the list"
