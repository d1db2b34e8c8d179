"""What shows that nothing was written."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

Counted = Callable[[], dict[str, int]]


@pytest.fixture
def counted(db_url: str) -> Counted:
    """Rows of every table of the test's database."""

    def count() -> dict[str, int]:
        with psycopg.connect(db_url, autocommit=True) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            return {name: _rows(connection, name) for (name,) in names}

    return count


def _rows(connection: "psycopg.Connection[tuple[int]]", table: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    assert row is not None
    return row[0]
