"""The stream over a crash of PostgreSQL, which gives numbers of transactions again that left nothing on its disk."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from orchestrator.client import Client
from orchestrator.engine.flows import register
from orchestrator.ledger import migrate, stream
from orchestrator.ledger.stream import Snapshot
from orchestrator.settings import Settings
from tests.http.test_stream import ledgers, serving
from tests.support import databases, servers
from tests.support.eventually import eventually
from tests.support.listener import Listener
from tests.support.servers import Server
from tests.support.small_flows import hello

FORGOTTEN = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One that may crash. It writes by itself only what somebody waits for."""
    with servers.postgres(tmp_path / "postgres") as made:
        with psycopg.connect(made.admin_url, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            admin.execute("SELECT pg_reload_conf()")
        yield made


@pytest.mark.slow
def test_numbers_of_transactions_that_come_again_are_not_taken_for_told(
    server: Server, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody's place is lost by it: what had those numbers was never committed."""
    looked: list[Snapshot] = []
    now = stream.now
    monkeypatch.setattr(stream, "now", lambda ledger: looked.append(now(ledger)) or looked[-1])
    assert server.embedded is not None
    with databases.created(server) as name:
        url = server.url_of(name)
        migrate.upgrade(url)
        settings = Settings(database_url=SecretStr(url), broker_url=SecretStr(broker_url), auth="open")
        with Client(settings) as stack, serving(settings) as door:
            register.register(stack.ledger, hello.manifest)
            with Listener([door.url]) as reader:
                stack.start("hello", name="you")
                eventually(lambda: reader.events)
                forgotten = _begun_and_forgotten(url)
                eventually(lambda: looked[-1].high > forgotten, message="the hub has seen them end")
                server.embedded.stop(immediate=True)
                server.embedded.start()
                with psycopg.connect(url, autocommit=True) as connection:
                    (again,) = (
                        connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone() or ()
                    )
                assert int(again) < forgotten, "their numbers come again"
                stack.runs(limit=1)  # a read is asked again: the client knows now that its connections are dead
                for _ in range(2 * FORGOTTEN):
                    stack.start("hello", name="you")
                expected = ledgers(stack)
                eventually(lambda: {one["id"] for one in reader.events} >= expected)
            assert "resync" not in reader.types


def _begun_and_forgotten(url: str) -> int:
    """Transactions that got a number and did nothing; the last one."""
    with psycopg.connect(url) as connection:
        for _ in range(FORGOTTEN):
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.rollback()
    assert row is not None
    return int(row[0])
