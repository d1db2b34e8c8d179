"""A lab for each test, audited when the test is over."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from orchestrator.ledger.tx import Ledger
from tests.support import databases
from tests.support.factories import RECORDER, Lab
from tests.support.servers import Server


@pytest.fixture(scope="session")
def recording_db(pg_server: Server, template_db: str) -> Iterator[str]:
    """The template, with triggers that write down every change of a status."""
    with databases.created(pg_server, template=template_db) as name:
        with psycopg.connect(pg_server.url_of(name), autocommit=True) as connection:
            connection.execute(RECORDER)
        yield name


@pytest.fixture
def unaudited_lab(pg_server: Server, recording_db: str) -> Iterator[Lab]:
    """A lab that may be left in a state no engine would leave."""
    with databases.created(pg_server, template=recording_db) as name:
        ledger = Ledger.connect(
            pg_server.url_of(name), pool_size=5, statement_timeout=timedelta(seconds=20), name="lab"
        )
        lab = Lab(pg_server.url_of(name), ledger)
        try:
            yield lab
        finally:
            lab.close()


@pytest.fixture
def lab(unaudited_lab: Lab) -> Iterator[Lab]:
    """A ledger, a worker, a clock; at the end every move must be a declared one and every counter right."""
    yield unaudited_lab
    unaudited_lab.audit()
