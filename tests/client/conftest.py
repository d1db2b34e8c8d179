"""A client on the test's own database and broker."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from orchestrator.client import Client
from orchestrator.settings import Settings


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as made:
        yield made


@pytest.fixture
def counted(db_url: str) -> Callable[[], dict[str, int]]:
    """Rows of every table, to show that nothing was written."""

    def count() -> dict[str, int]:
        with psycopg.connect(db_url, autocommit=True) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            return {name: _rows(connection, name) for (name,) in names}

    return count


def _rows(connection: "psycopg.Connection[tuple[object, ...]]", table: str) -> int:
    row = connection.execute(
        psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
    ).fetchone()
    assert row is not None
    return int(str(row[0]))
