"""The thread that hands on what this code does not take."""

from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy

from orchestrator.core.facts import Dispatch, WorkerInfo
from orchestrator.delivery.publisher import Publisher
from orchestrator.engine import workers
from orchestrator.ledger import reads
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from orchestrator.workers.run.hand_over import HandOver, Refused
from tests.support.eventually import eventually

TTL = timedelta(seconds=60)


def test_it_goes_on_after_its_pool_had_no_connection_for_it(
    db_url: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger.connect(db_url)
    worker_id = "host/1/hand-over"
    workers.hello(
        ledger,
        WorkerInfo(
            id=worker_id,
            host="host",
            pid=1,
            pool="threads",
            concurrency=1,
            prefetch=1,
            queues=("default",),
            handlers=(),
            release="1",
            versions={},
            refuses={},
        ),
    )
    narrow = Ledger.connect(db_url, pool_size=1)
    pool = narrow.engine.pool
    assert isinstance(pool, sqlalchemy.QueuePool)
    pool._max_overflow, pool._timeout = 0, 0.1
    hand_over = HandOver(narrow, Publisher(None, settings, narrow), worker_id, TTL)
    refused = Refused(Dispatch(uuid4(), "a", 1, "flow.a", "default", 5), "it does not fit", "0" * 64)
    with narrow.engine.connect():
        hand_over.give(refused)
        eventually(lambda: "database.away" in caplog.messages, message="the pool refuses")
    hand_over.give(refused)
    eventually(lambda: any(refused.key in worker.refuses for worker in reads.workers(ledger, TTL)))
    hand_over.close()
    narrow.close()
    ledger.close()
