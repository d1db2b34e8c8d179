"""A lab for each test, audited when the test is over.

One database serves them all and is emptied in between: making one costs more than most of these tests.
"""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from orchestrator.engine import faults
from orchestrator.ledger.tx import Ledger
from tests.support import databases
from tests.support.factories import RECORDER, Lab
from tests.support.servers import Server


@pytest.fixture(scope="session")
def _lab(pg_server: Server, template_db: str) -> Iterator[Lab]:
    with databases.created(pg_server, template=template_db) as name:
        url = pg_server.url_of(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RECORDER)
        lab = Lab(url, Ledger.connect(url, pool_size=5, statement_timeout=timedelta(seconds=20), name="lab"))
        yield lab
        lab.close()


@pytest.fixture
def unaudited_lab(_lab: Lab) -> Iterator[Lab]:
    """A lab that may be left in a state no engine would leave."""
    _lab.reset()
    yield _lab
    faults.disarm()


@pytest.fixture
def lab(unaudited_lab: Lab) -> Iterator[Lab]:
    """A ledger, a worker, a clock; at the end every move must be a declared one and every counter right."""
    yield unaudited_lab
    unaudited_lab.audit()
