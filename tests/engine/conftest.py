"""A lab for each test, audited when the test is over.

One database serves them all and is emptied in between: making one costs more than most of these tests.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from orchestrator.core.reach import Pooler, Reach
from orchestrator.engine import faults
from orchestrator.ledger.tx import Ledger
from tests.support import databases
from tests.support.bouncer import bouncer, equip
from tests.support.factories import RECORDER, Lab
from tests.support.servers import Server

_SCARCE: Final[dict[str, dict[str, Any]]] = {
    "session": {},
    "transaction": {"server_round_robin": 1},  # a session that one transaction left is rarely the next one's
}
LIMIT: Final = timedelta(seconds=20)


@pytest.fixture(scope="session")
def _lab(request: pytest.FixtureRequest, pg_server: Server, template_db: str, server_folder: Path) -> Iterator[Lab]:
    """With `--pooler` every ledger goes through PgBouncer, and the tests' own looks do not."""
    with databases.created(pg_server, template=template_db) as name, ExitStack() as stack:
        url = pg_server.url_of(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RECORDER)
        way = partial(Ledger.connect, url)
        if mode := request.config.getoption("--pooler"):
            equip(url, LIMIT)
            through = stack.enter_context(bouncer(url, server_folder, mode, **_SCARCE[mode]))
            way = partial(Ledger.connect, through, reach=Reach(Pooler(mode), LIMIT))
        ledger = way(pool_size=5, statement_timeout=LIMIT, name="lab")
        lab = Lab(url, ledger, way=way, shares_sessions=mode == "transaction")
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
