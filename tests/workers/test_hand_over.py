"""The thread that hands on what this code does not take."""

import logging
from collections.abc import Iterator
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
from orchestrator.workers.run.hand_over import HandOver, Unfit
from tests.support.eventually import eventually

TTL = timedelta(seconds=60)
WORKER = "host/1/hand-over"


@pytest.fixture
def ledger(db_url: str) -> Iterator[Ledger]:
    """With the row of the worker that refuses."""
    made = Ledger.connect(db_url)
    workers.hello(
        made,
        WorkerInfo(
            id=WORKER,
            host="host",
            pid=1,
            pool="threads",
            concurrency=1,
            prefetch=1,
            queues=("default",),
            handlers=(),
            release="1",
        ),
    )
    yield made
    made.close()


@pytest.fixture
def narrow(db_url: str) -> Iterator[Ledger]:
    """Of one connection, for which nobody waits long."""
    made = Ledger.connect(db_url, pool_size=1)
    pool = made.engine.pool
    assert isinstance(pool, sqlalchemy.QueuePool)
    pool._max_overflow, pool._timeout = 0, 0.1
    yield made
    made.close()


def refused(version: str = "0" * 64) -> Unfit:
    return Unfit(Dispatch(uuid4(), "a", 1, "flow.a", "default", 5), "it does not fit", version)


def noted(ledger: Ledger, one: Unfit) -> bool:
    return any(one.key in worker.refuses for worker in reads.workers.every(ledger, TTL))


def test_it_goes_on_after_its_pool_had_no_connection_for_it(
    ledger: Ledger, narrow: Ledger, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """And says that the pool was busy: the database is not away."""
    hand_over = HandOver(narrow, Publisher(None, settings, narrow), WORKER, TTL)
    one = refused()
    with caplog.at_level(logging.WARNING, "orchestrator"):
        with narrow.engine.connect():
            hand_over.give(one)
            eventually(lambda: any(record.message == "database.busy" for record in caplog.records))
        assert not [record for record in caplog.records if record.message == "database.away"]
        hand_over.give(one)
        eventually(lambda: noted(ledger, one))
    hand_over.close()


def test_it_outlives_an_error_that_nobody_thought_of(
    ledger: Ledger, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker's time to live that is not a length of time stands for it."""
    wrong: timedelta = "soon"  # type: ignore[assignment]
    hand_over = HandOver(ledger, Publisher(None, settings, ledger), WORKER, wrong)
    first, second = refused(), refused("1" * 64)
    with caplog.at_level(logging.WARNING, "orchestrator"):
        hand_over.give(first)
        eventually(lambda: any(record.message == "hand_over.failed" for record in caplog.records))
        hand_over._worker_ttl = TTL
        hand_over.give(second)
        eventually(lambda: noted(ledger, second))
    hand_over.close()
