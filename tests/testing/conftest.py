"""Worlds on the session's PostgreSQL."""

from collections.abc import Iterator

import pytest

from orchestrator.testing.databases import VARIABLE, databases
from tests.support.servers import Server


@pytest.fixture(scope="session", autouse=True)
def sim_server(pg_server: Server) -> Iterator[None]:
    """One server is enough for a test process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, pg_server.admin_url)
        yield
    databases.close()
