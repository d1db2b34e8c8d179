"""Servers and databases for every test: one pair of servers per test process, one empty database per test.

ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL replace the embedded servers; that PostgreSQL user must be allowed
to create databases, and that broker is flushed.
"""

import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import hypothesis
import pytest
from pydantic import SecretStr

from orchestrator.settings import Settings
from tests.support import databases, skips
from tests.support.nursery import Nursery, nursery
from tests.support.servers import Broker, Server, broker, postgres

HERE: Final = Path(__file__).parent
LONGEST: Final = (
    "soak/test_soak.py",
    "simulation/test_machine.py",
    "simulation/test_interleavings.py",
    "acceptance/test_own_modules.py",
    "workers/test_losses.py",
    "acceptance/test_dev.py",
    "workers/test_versions.py",
    "workers/test_attempts.py",
    "engine/test_random.py",
    "faults/test_dying_worker.py",
    "faults/test_outages.py",
    "docs/test_snippets.py",
    "workers/test_pools.py",
    "faults/test_dying_child.py",
    "embedded/test_supervisor.py",
    "engine/schedules/test_schedule_races.py",
    "engine/test_wide_runs.py",
    "workers/test_programs.py",
    "faults/test_sleeping_worker.py",
    "workers/test_outages.py",
    "examples/test_demo.py",
    "engine/test_failures.py",
    "engine/test_shapes.py",
    "faults/test_lost_connections.py",
    "faults/test_many.py",
    "client/test_client.py",
    "client/test_watcher.py",
    "workers/test_tls.py",
)
"""By what they took. Those that are not named take less than half a minute."""

# How long an example takes says how loaded the machine is, and nothing about the code.
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--pooler transaction`: the tests of the engine go through PgBouncer."""
    parser.addoption("--pooler", choices=("session", "transaction"), help="the mode of a PgBouncer before the engine")


def pytest_configure(config: pytest.Config) -> None:
    """A test that is skipped in CI has a reason in `tests/skips.txt`."""
    skips.register(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: at the end one process would wait for the other."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(HERE).as_posix(), len(places)))


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A short path, because sockets have little room for theirs."""
    with tempfile.TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def pg_server(server_folder: Path) -> Iterator[Server]:
    """PostgreSQL for the session. A test that stops it makes its own: `tests.support.servers.postgres(folder)`."""
    with postgres(server_folder / "postgres", os.environ.get("ORCHESTRATOR_DATABASE_URL")) as server:
        yield server


@pytest.fixture(scope="session")
def template_db(pg_server: Server) -> Iterator[str]:
    """The name of a database that has the migrated schema and no rows; never connect to it."""
    from orchestrator.ledger import migrate

    with databases.created(pg_server) as name:
        migrate.upgrade(pg_server.url_of(name))
        yield name


@pytest.fixture(scope="session")
def _lent(pg_server: Server, template_db: str) -> Iterator[databases.Lent]:
    made = databases.Lent(pg_server, template_db)
    yield made
    made.close()


@pytest.fixture
def db_url(pg_server: Server, _lent: databases.Lent) -> Iterator[str]:
    """The URL of this test's own migrated database, empty; whoever is still connected afterwards loses it."""
    with _lent.lend() as name:
        yield pg_server.url_of(name)


@pytest.fixture
def empty_db_url(pg_server: Server) -> Iterator[str]:
    """The URL of this test's own database without any table."""
    with databases.created(pg_server) as name:
        yield pg_server.url_of(name)


@pytest.fixture(scope="session")
def broker_server(server_folder: Path) -> Iterator[Broker]:
    """Valkey for the whole session. A test that stops it makes its own: `tests.support.servers.broker(folder)`."""
    with broker(server_folder / "valkey", os.environ.get("ORCHESTRATOR_BROKER_URL")) as server:
        yield server


@pytest.fixture(scope="session")
def the_nursery() -> Iterator[Nursery]:
    """Where workers come from that are ready in no time."""
    with nursery() as made:
        yield made


@pytest.fixture
def broker_url(broker_server: Broker) -> str:
    """The URL of an empty broker."""
    broker_server.flush()
    return broker_server.url


@pytest.fixture
def settings(db_url: str, broker_url: str) -> Settings:
    """Short times, so that expiry and recovery happen within seconds."""
    return Settings(
        database_url=SecretStr(db_url),
        broker_url=SecretStr(broker_url),
        lease=timedelta(seconds=3),
        heartbeat=timedelta(seconds=1),
        sweep_interval=timedelta(seconds=0.5),
        redispatch_after=timedelta(seconds=1),
        cancel_grace=timedelta(seconds=2),
        worker_ttl=timedelta(seconds=5),
    )
