"""What a keeper sends again, and what it leaves for later."""

from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.facts import WorkerInfo
from orchestrator.engine import workers
from orchestrator.engine.sweeps import redispatch
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
