"""Redis and PostgreSQL go away under load and come back: nothing is lost, nothing storms."""

import json
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from orchestrator.core.facts import StartRequest
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs import start_run
from orchestrator.ledger import migrate, reads
from tests.faults.arena import Arena, arena
from tests.support import databases, servers
from tests.support.eventually import eventually
from tests.support.nursery import Nursery
from tests.support.servers import Broker, Server

pytestmark = pytest.mark.timeout(300)
SWEEP_S = 0.3


@pytest.fixture
def own_broker(stack: ExitStack, short_folder: Path) -> Broker:
    """May be stopped and started."""
    return stack.enter_context(servers.broker(short_folder / "valkey"))


@pytest.fixture
def field(
    stack: ExitStack,
    pg_server: Server,
    template_db: str,
    own_broker: Broker,
    the_nursery: Nursery,
    tmp_path: Path,
) -> Arena:
    return stack.enter_context(arena(pg_server, template_db, own_broker.url, tmp_path, the_nursery))


def ends(field: Arena) -> int:
    return sum(line.kind == "end" for line in field.lines())


def until_more(field: Arena, count: int) -> None:
    """Wait for so many more steps."""
    before = ends(field)
    eventually(lambda: ends(field) >= before + count, timeout=60)


def outage(seconds: float) -> None:
    """How long a server is away: that is what is tested, so it is slept through."""
    time.sleep(seconds)


@pytest.mark.slow
def test_redis_is_flushed_stopped_and_restarted_under_load(field: Arena, own_broker: Broker) -> None:
    assert own_broker.embedded is not None
    workers = [field.worker(concurrency=2), field.worker(concurrency=4, pool="threads")]
    runs = field.start_many("mix", 60, plan={"total": "nap=0.1"})
    for _ in range(3):
        until_more(field, 30)
        own_broker.flush()
    until_more(field, 30)
    own_broker.embedded.stop(immediate=True)
    outage(5 * SWEEP_S)
    own_broker.embedded.start()
    runs += field.start_many("mix", 20)
    for run_id in runs:
        field.check(run_id)
    assert all(worker.alive for worker in workers)
    field.judge_all_again()


def test_what_is_started_while_redis_is_down_is_sent_once_when_it_is_back(field: Arena, own_broker: Broker) -> None:
    """Several sweeps see every step wait; when Redis is back, each gets its one message, whoever sends it."""
    assert own_broker.embedded is not None
    count = 400
    for _ in range(2):
        field.worker(concurrency=2)
    own_broker.embedded.stop(immediate=True)
    runs = field.start_many("single", count)
    outage(8 * SWEEP_S)
    assert not field.lines()
    own_broker.embedded.start()
    for run_id in runs:
        assert field.ended(run_id) is RunStatus.SUCCEEDED
    assert len([line for line in field.lines() if line.kind == "start"]) == count
    with redis.Redis.from_url(own_broker.url) as client:
        pushed = client.info("commandstats")["cmdstat_lpush"]["calls"]
    (row,) = field.rows("SELECT sum(suppressed) AS n FROM flow_step_dispatches")
    print(f"{count} steps, {pushed} messages (probes among them), {row['n']} of them suppressed")
    assert row["n"] <= count * 0.05
    assert pushed <= count * 1.25 + 50


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_postgres_is_restarted_in_immediate_mode_under_load(
    stack: ExitStack, short_folder: Path, broker_server: Broker, the_nursery: Nursery, tmp_path: Path, pool: str
) -> None:
    """Every open transaction is gone; what was committed counts, the rest is asked again. No step runs twice for it."""
    server = stack.enter_context(servers.postgres(short_folder / "pg"))
    template = stack.enter_context(databases.created(server))
    migrate.upgrade(server.url_of(template))
    made = arena(server, template, broker_server.url, tmp_path, the_nursery, lease=timedelta(seconds=15))
    field = stack.enter_context(made)
    assert server.embedded is not None
    worker = field.worker(concurrency=2, pool=pool)
    runs = field.start_many("mix", 60, plan={"total": "nap=0.1"})
    for _ in range(2):
        until_more(field, 60)
        server.embedded.stop(immediate=True)
        outage(3 * SWEEP_S)
        server.embedded.start()
        field.ledger.close()
    for run_id in runs:
        field.check(run_id, crashed=range(3))
    assert worker.alive
    crashed = field.rows("SELECT step_key, owner FROM flow_step_attempts WHERE status = 'crashed'")
    assert {row["step_key"] for row in crashed} <= {"pay"}, "only a transaction can be lost"
    assert len(crashed) <= 4
    field.judge_all_again()


def test_a_client_that_starts_while_redis_is_down_is_not_refused(field: Arena, own_broker: Broker) -> None:
    """Accepted, and published later by whoever sweeps."""
    assert own_broker.embedded is not None
    own_broker.embedded.stop(immediate=True)
    body = json.dumps({"plan": {}})
    (started,) = start_run.start(field.ledger, [StartRequest("single", body)])
    assert not field.publisher.publish(started.dispatches)
    assert reads.runs.status(field.ledger, started.run_id) is RunStatus.PENDING
    own_broker.embedded.start()
    field.worker()
    assert field.ended(started.run_id) is RunStatus.SUCCEEDED
