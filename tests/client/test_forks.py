"""A client that was used before a fork works after it, in the parent and in the child, and they share nothing."""

import asyncio
import json
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import redis

from orchestrator import flow, forks, step
from orchestrator.client import AsyncClient, Client
from orchestrator.delivery import sender
from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.forked import in_child
from tests.support.servers import Broker
from tests.support.worker_process import env_of


@step
def one() -> None: ...


@flow(name="forked")
def forked() -> None:
    return one()


Published = Callable[[str], tuple[int, int]]


@pytest.fixture
def published(db_url: str) -> Published:
    """How many starts with a tag were sent, and how many there are."""
    query = """SELECT count(d.published_at), count(*) FROM flow_step_dispatches d JOIN flow_runs r ON r.id = d.run_id
                WHERE %s = ANY (r.tags)"""

    def ask(tag: str) -> tuple[int, int]:
        with psycopg.connect(db_url) as connection:
            row = connection.execute(query, [tag]).fetchone()
            assert row is not None
            return row[0], row[1]

    return ask


def backend(client: Client) -> int:
    with client.ledger.auto() as tx:
        return int(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def start(client: Client, tag: str, count: int = 1) -> None:
    for _ in range(count):
        client.start(forked, tags=[tag])


def test_starts_of_parent_and_child_are_sent_by_whoever_made_them(
    settings: Settings, published: Published, broker_server: Broker, db_url: str
) -> None:
    def alive(pid: int) -> bool:
        with psycopg.connect(db_url) as connection:
            return connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is not None

    with Client(settings) as client:
        start(client, "before")
        mine = backend(client)

        def child() -> None:
            assert backend(client) != mine
            start(client, "child", 3)
            client.close()

        assert in_child(child) == 0
        assert published("child") == (3, 3)
        assert alive(mine), "the child left the parent's connection alone"
        start(client, "after")
        eventually(lambda: published("before") == published("after") == (1, 1))
    with redis.Redis.from_url(broker_server.url) as broker:
        assert sum(broker.llen(key) for key in broker.scan_iter() if broker.type(key) == b"list") == 5  # type: ignore[misc]


def test_a_fork_that_ran_no_hooks_is_noticed_by_the_process_id(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uWSGI forks, without `py-call-osafterfork`."""
    with Client(settings) as client:
        mine = backend(client)
        monkeypatch.setattr(forks, "_pid", 0)
        assert backend(client) != mine


def test_a_child_of_multiprocessing_starts_runs(settings: Settings, published: Published) -> None:
    with Client(settings) as client:
        start(client, "before")
        process = multiprocessing.get_context("fork").Process(target=lambda: (start(client, "child"), client.close()))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert published("child") == (1, 1)


def test_a_child_is_not_held_up_by_a_backlog(
    settings: Settings, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_BACKLOG", 20)
    with Client(settings) as client:
        start(client, "before")
        assert in_child(lambda: (start(client, "many", 60), client.close())) == 0
    assert published("many") == (60, 60)


def test_locks_that_other_threads_hold_during_the_fork_do_not_hang_the_child(
    settings: Settings, published: Published
) -> None:
    with Client(settings) as client, ExitStack() as held:
        start(client, "before")
        eventually(lambda: published("before") == (1, 1))
        sending = client.sending()
        locks = [
            client._lock,
            client.ledger._lock,
            client.ledger._sessions._proving,
            client.ledger.engine.pool._pool.mutex,  # type: ignore[attr-defined]
            sending._changed,
            sending._publisher._confirmer._guard,
            sending._publisher._guard,
            sending._publisher._pool._resource.mutex,
            sending._publisher._pool.connections._resource.mutex,
        ]
        taken, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with ExitStack() as stack:
                for lock in locks:
                    stack.enter_context(lock)
                taken.set()
                let_go.wait(120)

        holder = threading.Thread(target=hold)
        holder.start()
        held.callback(holder.join)
        held.callback(let_go.set)
        assert taken.wait(60)
        assert in_child(lambda: (start(client, "child"), client.close())) == 0
        assert published("child") == (1, 1)


def test_a_child_inside_a_transaction_of_the_parent_leaves_it_alone(settings: Settings) -> None:
    with Client(settings) as client, client.ledger.tx() as tx:
        before = tx.exec_driver_sql("SELECT pg_current_xact_id()").scalar()
        assert in_child(lambda: start(client, "child")) == 0
        assert tx.exec_driver_sql("SELECT pg_current_xact_id()").scalar() == before


def test_an_async_client_works_in_a_child(settings: Settings, published: Published) -> None:
    client = AsyncClient(settings)

    async def begin(tag: str) -> None:
        await client.start(forked, tags=[tag])

    asyncio.run(begin("before"))
    assert in_child(lambda: (asyncio.run(begin("child")), asyncio.run(client.close()))) == 0
    asyncio.run(client.close())
    assert published("before") == published("child") == (1, 1)


SERVER = """
import json, os, sys, traceback
from orchestrator import Client
from tests.client.test_forks import forked

client = Client.from_env()  # as the module of a web application does, loaded once before the workers are forked
client.start(forked, tags=["server"])
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        for _ in range(5):
            client.start(forked, tags=["server"])
        sys.exit(0)  # an orderly end, with the parent's atexit handlers
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
client.start(forked, tags=["server"])
print(json.dumps(codes))
"""


def test_a_server_that_loads_before_it_forks_sends_everything(
    settings: Settings, published: Published, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVER], env=env_of(settings), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == [0, 0, 0]
    assert published("server") == (17, 17)


def test_what_a_host_is_looked_up_with_is_imported_before_any_fork() -> None:
    """A child that was forked while a thread of its parent imported it could connect to nothing."""
    program = "import sys, orchestrator.forks; print('encodings.idna' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"
