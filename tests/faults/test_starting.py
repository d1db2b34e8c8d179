"""Accepted means durable: a client dies, or loses its connection, at every point of a start."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import pytest
import redis
from pydantic import SecretStr

from orchestrator.core.facts import StartRequest
from orchestrator.engine.runs import start_run
from orchestrator.ledger.tx import Ledger, is_disconnect
from tests.faults.arena import WIDTH, Arena
from tests.faults.conftest import Make
from tests.support.eventually import eventually
from tests.support.nursery import alive
from tests.support.proxy import Loss, Proxy
from tests.support.worker_process import env_of


@pytest.fixture(scope="module")
def field(make_arena: Make) -> Iterator[Arena]:
    with make_arena(lease=timedelta(seconds=30)) as made:
        made.worker()
        yield made
        made.judge_all_again()


def client(field: Arena, key: str) -> str:
    """What a client process printed."""
    log = field.folder / f"{key}.log"
    log.write_text("")
    env = env_of(field.settings, **field.env)
    pid = field.nursery.fork("tests.faults.client:start", key, env=env, log=log, folder=field.folder)
    eventually(lambda: not alive(pid), timeout=60)
    return log.read_text()


def runs(field: Arena, key: str) -> list[UUID]:
    return [row["id"] for row in field.rows("SELECT id FROM flow_runs WHERE trigger_key = %s", key)]


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(
    ("point", "accepted"), [("start.before", 0), ("start.committed", 1), ("publish.before", 1), ("publish.after", 1)]
)
def test_a_client_dies(field: Arena, point: str, accepted: int, flushed: bool) -> None:
    """Before its commit nothing is there; after it the run goes its way, and the client's key finds it again.

    The message is sent beside the client's own work: by then it may know the run's id.
    """
    key = f"{point}-{flushed}"
    field.order(point, "kill", "any")
    told = client(field, key)
    assert "run " not in told or point.startswith("publish")
    field.struck(point)
    if flushed:
        with redis.Redis.from_url(field.settings.require_broker_url()) as broker:
            broker.flushall()
    found = runs(field, key)
    assert len(found) == accepted
    for run_id in found:
        field.check(run_id)
    said = client(field, key)
    (run_id,) = runs(field, key)
    assert said == f"run {run_id}\n"
    field.check(run_id)


@pytest.mark.parametrize(("lose", "created"), [("request", True), ("reply", False)])
def test_a_client_loses_its_connection(field: Arena, lose: Loss, created: bool) -> None:
    """The error says that the outcome is unknown; asking again with the key gives one run."""
    key = f"lost-{lose}"
    request = StartRequest("mix", json.dumps({"width": WIDTH, "plan": {}}), key)
    with closing(Proxy(field.settings.require_database_url())) as proxy:
        ledger = Ledger.connect(SecretStr(proxy.url).get_secret_value())
        proxy.cut(key.encode(), lose=lose)
        with pytest.raises(Exception) as caught:  # noqa: PT011  its kind is judged below
            start_run.start(ledger, [request])
        assert is_disconnect(caught.value)
        (started,) = start_run.start(ledger, [request])
        ledger.close()
    assert proxy.cuts == 1
    assert started.created is created
    assert runs(field, key) == [started.run_id]
    field.check(started.run_id)
