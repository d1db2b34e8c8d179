"""Servers that go away and come back, under load; each test has its own."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.delivery.publisher import Publisher
from orchestrator.engine.flows import register
from orchestrator.ledger import migrate
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.support import databases, servers
from tests.support.eventually import eventually
from tests.support.servers import Broker
from tests.support.worker_process import WorkerProcess
from tests.workers import flows
from tests.workers.conftest import Bench

Start = Callable[..., WorkerProcess]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def own_broker(short_folder: Path) -> Iterator[Broker]:
    with servers.broker(short_folder / "valkey") as server:
        yield server


def at(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update=changes)


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_redis_may_restart_empty_under_load(bench: Bench, worker: Start, own_broker: Broker, pool: str) -> None:
    """The worker stays, reconnects and consumes; what was in Redis is sent again."""
    bench.settings = at(bench.settings, broker_url=SecretStr(own_broker.url))
    bench.publisher = Publisher(None, bench.settings, bench.ledger)
    process = worker(pool=pool, concurrency=2)
    run_id = bench.start("slows", items=list(range(30)), seconds=0.2)
    eventually(lambda: len(bench.effects("end")) >= 4)
    assert own_broker.embedded is not None
    own_broker.embedded.stop(immediate=True)
    time.sleep(2)  # the length of the outage
    own_broker.embedded.start()
    assert bench.result(run_id) == list(range(30))
    assert process.alive
    assert len(bench.effects("start")) == 30
    assert bench.result(bench.start("chain", n=1)) == 20
    process.term()
    assert process.wait() == 0
    assert process.log().count("messages.left_to_ledger") == 1, "one attempt to give back, not one per message"
    assert "EMERGENCY DUMP" not in process.log(), "nothing is written to the system's temporary folder"
    assert "shutdown.gave_back" not in process.log(), "what was taken before the outage is forgotten, not sent again"
    bench.publisher.close()


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_postgres_may_crash_and_come_back_under_load(
    short_folder: Path, settings: Settings, tmp_path: Path, pool: str, worker_of: Any
) -> None:
    with servers.postgres(short_folder / "pg") as server, databases.created(server) as name:
        url = server.url_of(name)
        migrate.upgrade(url)
        own = at(settings, database_url=SecretStr(url), lease=timedelta(seconds=6))
        ledger = Ledger.connect(url)
        for flow in (flows.slows, flows.chain):
            register.register(ledger, flow.manifest)
        publisher = Publisher(None, own, ledger)
        bench = Bench(own, ledger, publisher, tmp_path, tmp_path / "effects.log")
        process = worker_of(bench, pool=pool, concurrency=2)
        run_id = bench.start("slows", items=list(range(30)), seconds=0.2)
        eventually(lambda: len(bench.effects("end")) >= 4)
        assert server.embedded is not None
        server.embedded.stop(immediate=True)
        time.sleep(1.5)  # the length of the outage
        server.embedded.start()
        ledger.close()
        assert bench.result(run_id) == list(range(30))
        assert len(bench.effects("start")) == 30
        assert process.alive
        publisher.close()
        ledger.close()
        process.kill()


def test_a_worker_waits_for_a_database_that_is_not_up_yet(settings: Settings, bench: Bench, worker: Start) -> None:
    nowhere = SecretStr("postgresql+psycopg://nobody:geheim@127.0.0.1:1/none")
    process = worker(ready=False, settings=at(settings, database_url=nowhere), pool="threads")
    eventually(lambda: "database.away" in process.log())
    assert "geheim" not in process.log()
    assert process.alive


def test_acknowledgements_may_be_emulated(bench: Bench, worker: Start) -> None:
    """The switch back to Celery's default."""
    process = worker(pool="prefork", settings=at(bench.settings, ack_emulation=True))
    for run_id in bench.start_many("chain", [{"n": 1}] * 20):
        assert bench.result(run_id) == 20
    assert len(bench.effects("start")) == 100
    process.term()
    assert process.wait() == 0
