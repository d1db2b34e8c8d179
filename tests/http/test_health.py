"""Health is told in time, and by the right status, whatever the servers do: hang, refuse, or be gone."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import psutil
import psycopg
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from orchestrator.client import Client
from orchestrator.core.access import Actor, Grant, Role
from orchestrator.core.release import release
from orchestrator.engine.access import keys
from orchestrator.engine.flows import register
from orchestrator.http.app import create_app
from orchestrator.ledger import migrate
from orchestrator.observe import probes
from orchestrator.settings import Settings
from tests.support import databases
from tests.support.eventually import eventually
from tests.support.servers import Broker, Server, broker, postgres
from tests.support.small_flows import hello
from tests.support.worker_process import env_of

BUDGET = timedelta(seconds=1)
LATEST_S = 10.0
"""Much later than the budget, for a loaded machine; a check that waits for a server would take for ever."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def own_postgres(folder: Path) -> Iterator[Server]:
    with postgres(folder / "postgres") as server:
        yield server


@pytest.fixture(scope="module")
def own_broker(folder: Path) -> Iterator[Broker]:
    with broker(folder / "valkey") as server:
        yield server


@pytest.fixture
def own(own_postgres: Server, own_broker: Broker) -> Iterator[Settings]:
    """Settings on servers that the test may take away."""
    with databases.created(own_postgres) as name:
        url = own_postgres.url_of(name)
        migrate.upgrade(url)
        yield Settings(
            database_url=SecretStr(url), broker_url=SecretStr(own_broker.url), health_budget=BUDGET, auth="open"
        )


@pytest.fixture
def served(own: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(own), "http://127.0.0.1", client=("127.0.0.1", 50000)) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FRESH_S", 0.0)


@contextlib.contextmanager
def hanging(pid: int) -> Iterator[None]:
    """A server whose processes all stand still."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    try:
        for one in processes:
            one.suspend()
        yield
    finally:
        for one in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()


def asked(api: TestClient, path: str) -> tuple[int, dict[str, Any], float]:
    began = time.monotonic()
    answer = api.get(path)
    return answer.status_code, answer.json(), time.monotonic() - began


def statuses(body: dict[str, Any]) -> dict[str, str]:
    return {name: check["status"] for name, check in body["checks"].items()}


def test_all_checks_are_told(served: TestClient) -> None:
    code, body, _ = asked(served, "/health")
    assert (code, body["status"]) == (200, "degraded")
    assert statuses(body) == {
        "database": "up",
        "broker": "up",
        "workers": "down",
        "scheduler": "unused",
        "payload_store": "unused",
    }
    assert body["checks"]["workers"]["detail"] == "no worker is live"
    assert body["checks"]["database"]["latency_ms"] > 0
    assert asked(served, "/health/readiness")[:2][0] == 200
    assert asked(served, "/health/liveness")[:2] == (200, {"status": "alive"})


def test_it_is_healthy_with_a_worker(served: TestClient, own: Settings) -> None:
    with Client(own) as client, client.ledger.tx() as tx:
        tx.exec_driver_sql(
            "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release,"
            " consumed_at) VALUES ('h/1/r', 'h', 1, 'threads', 1, 1, '{default}', '{a}', '1', flow_now())"
        )
    code, body, _ = asked(served, "/health")
    assert (code, body["status"], body["checks"]["workers"]["detail"]) == (200, "healthy", "1 live worker")


def test_a_keeper_is_enough_where_workers_may_go_to_zero(served: TestClient, own: Settings) -> None:
    with Client(own) as client, client.ledger.tx() as tx:
        tx.exec_driver_sql(
            "INSERT INTO flow_workers (id, host, pid, pool, concurrency, prefetch, queues, handlers, release)"
            " VALUES ('h/1/r', 'h', 1, 'keeper', 0, 0, '{}', '{}', '1')"
        )
    code, body, _ = asked(served, "/health")
    said = "no worker is live; time is kept by 1 keeper"
    assert (code, body["status"], body["checks"]["workers"]["detail"]) == (200, "healthy", said)


def test_a_database_that_hangs_is_told_in_time(served: TestClient, own_postgres: Server) -> None:
    """Also to many who ask at once, and one look hangs for all of them: the next begins when it has ended."""
    assert own_postgres.embedded is not None
    assert asked(served, "/health/readiness")[0] == 200
    with hanging(own_postgres.embedded.pid):
        for path in ("/health", "/health/readiness"):
            code, body, took_s = asked(served, path)
            database = body["checks"]["database"] if path == "/health" else body["database"]
            assert (code, database["status"], database["detail"]) == (503, "down", "no answer within 1s")
            assert took_s < LATEST_S
        found: list[int] = []
        many = [threading.Thread(target=lambda: found.append(asked(served, "/health/readiness")[0])) for _ in range(20)]
        for one in many:
            one.start()
        for one in many:
            one.join(LATEST_S)
        assert found == [503] * 20
        assert [one.name for one in threading.enumerate()].count("health-ledger") == 1
        assert asked(served, "/health/liveness")[0] == 200
    eventually(lambda: asked(served, "/health/readiness")[0] == 200)


def test_routes_that_hang_do_not_keep_health_waiting(served: TestClient, own_postgres: Server) -> None:
    """All threads of the routes wait for the database."""
    assert own_postgres.embedded is not None
    with hanging(own_postgres.embedded.pid):
        waiting = [threading.Thread(target=lambda: served.get("/api/flows"), daemon=True) for _ in range(12)]
        for one in waiting:
            one.start()
        code, _, took_s = asked(served, "/health")
        assert (code, took_s < LATEST_S) == (503, True)
    for one in waiting:
        one.join(60)


def test_a_broker_that_hangs_degrades(served: TestClient, own_broker: Broker) -> None:
    assert own_broker.embedded is not None
    with hanging(own_broker.embedded.pid):
        code, body, took_s = asked(served, "/health")
        assert (code, body["status"], body["checks"]["broker"]["status"]) == (200, "degraded", "down")
        assert took_s < LATEST_S
        assert asked(served, "/health/readiness")[0] == 200
    eventually(lambda: asked(served, "/health")[1]["checks"]["broker"]["status"] == "up")


def test_a_server_without_connections_is_down(served: TestClient, own_postgres: Server, own: Settings) -> None:
    url = own.require_database_url().replace("+psycopg", "")
    with psycopg.connect(own_postgres.admin_url, autocommit=True) as admin:
        name = url.rpartition("/")[2]
        admin.execute(f"CREATE ROLE \"few{name}\" LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
        few = own.model_copy(update={"database_url": SecretStr(_as(url, f"few{name}"))})
        try:
            with TestClient(create_app(few)) as api:
                code, body, took_s = asked(api, "/health")
        finally:
            admin.execute(f'DROP ROLE "few{name}"')
    assert (code, body["checks"]["database"]["detail"]) == (503, "has no connection left")
    assert took_s < LATEST_S


def _as(url: str, user: str) -> str:
    parts = httpx2.URL(url.replace("postgresql", "http", 1))
    return str(parts.copy_with(username=user, password="x")).replace("http", "postgresql+psycopg", 1)


def test_servers_that_are_gone_are_told_without_their_names(own: Settings) -> None:
    gone = own.model_copy(
        update={
            "database_url": SecretStr("postgresql+psycopg://me:hidden@127.0.0.1:1/gone"),
            "broker_url": SecretStr("redis://:hidden@127.0.0.1:1/0"),
            "payload_store": "file:///nowhere/at/all",
        }
    )
    with TestClient(create_app(gone)) as api:
        answer = api.get("/health")
        assert answer.status_code == 503
        assert set(statuses(answer.json()).values()) == {"down"}
        for private in ("hidden", "127.0.0.1", "nowhere", "gone"):
            assert private not in answer.text
        assert asked(api, "/health/readiness")[0] == 503
        assert asked(api, "/health/liveness")[0] == 200


def test_an_older_schema_is_not_ready(own_postgres: Server, own: Settings) -> None:
    with databases.created(own_postgres) as name:
        empty = own.model_copy(update={"database_url": SecretStr(own_postgres.url_of(name))})
        with TestClient(create_app(empty)) as api:
            code, body, _ = asked(api, "/health/readiness")
    assert (code, body["database"]["detail"]) == (503, "the schema is not that of this release")


def test_schedules_without_a_beat_degrade(served: TestClient, own: Settings) -> None:
    with Client(own) as client, client.ledger.tx() as tx:
        register.register(client.ledger, hello.manifest)
        tx.exec_driver_sql(
            "INSERT INTO flow_schedule_states (flow, trigger_key, definition) VALUES ('hello', 'daily', '{}')"
        )
    check = asked(served, "/health")[1]["checks"]["scheduler"]
    assert (check["status"], check["detail"]) == ("down", "no beat runs: workers fire 1 schedule, later")


def test_a_check_that_fails_is_asked_again() -> None:
    """A fault of ours is an error for who asked, and no dead end."""
    import asyncio

    found: list[int] = []

    def check() -> int:
        found.append(1)
        if len(found) == 1:
            raise ValueError("ours")
        return len(found)

    async def ask() -> None:
        probe = probes.Probe("probe", check)
        with pytest.raises(ValueError, match="ours"):
            await probe.ask(LATEST_S)
        answer = await probe.ask(LATEST_S)
        assert answer is not None
        assert answer.found == 2

    asyncio.run(ask())


def test_it_says_that_it_stops_before_it_does(own: Settings) -> None:
    """It serves on meanwhile; who waits is answered before the end, and the process ends well."""
    slow = own.model_copy(update={"shutdown_delay": timedelta(seconds=2)})
    with Client(own) as client:
        register.register(client.ledger, hello.manifest)
        run = client.start("hello", {"name": "you"})
    delay = str(slow.shutdown_delay.total_seconds())
    env = env_of(own, ORCHESTRATOR_SHUTDOWN_DELAY=delay, ORCHESTRATOR_LOG_FORMAT="json")
    command = [sys.executable, "-m", "orchestrator", "api", "--port", "0"]
    with (
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1].removesuffix("/api")
        with httpx2.Client(base_url=url, timeout=60) as http:
            assert http.get("/health/readiness").status_code == 200
            waited: list[Any] = []
            waits = threading.Thread(
                target=lambda: waited.append(httpx2.get(f"{url}/api/runs/{run.id}?wait=55s", timeout=60))
            )
            waits.start()
            os.kill(process.pid, signal.SIGTERM)
            answer = eventually(lambda: (found := http.get("/health/readiness")).status_code == 503 and found)
            assert answer.json()["status"] == "stopping"
            assert http.get(f"/api/runs/{run.id}").status_code == 200
        assert process.wait(60) in (0, -signal.SIGTERM)
        waits.join(60)
        assert process.stderr is not None
        logged = [json.loads(line)["event"] for line in process.stderr]
    assert waited[0].json()["status"] == "pending"
    assert "api.request" in logged


def test_queues_are_told_while_the_broker_hangs(served: TestClient, own: Settings, own_broker: Broker) -> None:
    """Without the messages that lie there."""
    with Client(own) as client:
        register.register(client.ledger, hello.manifest)
        client.start("hello", name="a")
        eventually(lambda: asked(served, "/api/queues")[1]["items"][0]["messages"] >= 1)  # others have sent some, too
    assert asked(served, "/api/queues")[1]["broker"] == "up"
    assert own_broker.embedded is not None
    pid = own_broker.embedded.pid
    assert pid is not None
    with hanging(pid):
        code, body, took_s = asked(served, "/api/queues")
    assert (code, body["broker"], took_s < LATEST_S) == (200, "down", True)
    assert [(one["ready"], one["messages"]) for one in body["items"]] == [(1, None)]


def test_versions_are_told_to_those_who_have_a_key(own: Settings) -> None:
    with Client(own) as client:
        text = keys.create(client.ledger, "probe", Grant(Role.VIEWER), Actor("root"), keys.NEVER).text
    app = create_app(own.model_copy(update={"auth": "keys"}))
    with TestClient(app, "http://127.0.0.1", client=("192.0.2.1", 50000)) as door:
        assert door.get("/health").json()["versions"] is None
        forged = door.get("/health", headers={"Authorization": f"Bearer {text[:-1]}x"})
        assert (forged.status_code, forged.json()["versions"]) == (200, None)
        told = door.get("/health", headers={"Authorization": f"Bearer {text}"}).json()["versions"]
    assert told == {
        "orchestrator": release(),
        "python": platform.python_version(),
        "postgresql": told["postgresql"],
        "schema": migrate.head(),
    }
    assert told["postgresql"].partition(".")[0].isdigit()
