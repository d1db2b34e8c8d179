"""Databases that tests have for themselves."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Final

import psycopg
from psycopg import sql

from tests.support.servers import Server

_LEAVE_S: Final = 0.5
"""How long sessions that were closed take to be gone, at most."""
_SESSIONS: Final = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_SCHEMA: Final = """
SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
  SELECT 'class ' || oid || ' ' || xmin AS part FROM pg_class WHERE oid >= 16384
  UNION ALL SELECT 'column ' || attrelid || ' ' || attnum || ' ' || xmin FROM pg_attribute WHERE attrelid >= 16384
  UNION ALL SELECT 'constraint ' || oid || ' ' || xmin FROM pg_constraint WHERE oid >= 16384
  UNION ALL SELECT 'function ' || oid || ' ' || xmin FROM pg_proc WHERE oid >= 16384
  UNION ALL SELECT 'trigger ' || oid || ' ' || xmin FROM pg_trigger WHERE oid >= 16384
  UNION ALL SELECT 'type ' || oid || ' ' || xmin FROM pg_type WHERE oid >= 16384
  UNION ALL SELECT 'schema ' || oid || ' ' || xmin FROM pg_namespace
  UNION ALL SELECT 'setting ' || setdatabase || ' ' || setrole || ' ' || xmin FROM pg_db_role_setting
) AS parts
"""
"""Whoever changes the schema writes such a row anew."""
_FILLED: Final = """
SELECT oid::regclass::text FROM pg_class
 WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
"""


@contextmanager
def created(server: Server, template: str | None = None) -> Iterator[str]:
    """The name of a new database, a copy of `template` if one is given; dropped at the end with its connections."""
    name = _create(server, template)
    try:
        yield name
    finally:
        _drop(server, name)


@dataclass
class Lent:
    """A copy of `template` that one test has after the other, empty each time: to make one costs more than many tests.

    It goes on if it comes back with the schema that it had and with nobody connected; else it is dropped, and the next
    test has a new one.
    """

    server: Server
    template: str
    _name: str | None = field(default=None, init=False)
    _schema: str = field(default="", init=False)

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Its name."""
        if self._name is None:
            self._name = _create(self.server, self.template)
            with self._connect(self._name) as connection:
                self._schema = _one(connection, _SCHEMA)
        try:
            yield self._name
        finally:
            if not self._emptied(self._name):
                self.close()

    def close(self) -> None:
        """Drop it, whoever is connected."""
        name, self._name = self._name, None
        if name is not None:
            _drop(self.server, name)

    def _emptied(self, name: str) -> bool:
        try:
            with self._connect(name) as connection:
                if not _is_left(connection) or _one(connection, _SCHEMA) != self._schema:
                    return False
                _empty(connection)
        except psycopg.Error:  # it was renamed, or dropped, or somebody came back and holds a row
            return False
        return True

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.url_of(name), autocommit=True, options="-c lock_timeout=2s")


def _is_left(connection: psycopg.Connection[Any]) -> bool:
    ends = monotonic() + _LEAVE_S
    while _one(connection, _SESSIONS):
        if monotonic() > ends:
            return False
        sleep(0.01)
    return True


def _empty(connection: psycopg.Connection[Any]) -> None:
    """Without TRUNCATE, which makes new files for every table and index."""
    tables = [name for (name,) in connection.execute(_FILLED)]
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")  # in any order: all of it goes
        connection.execute("; ".join(f"DELETE FROM {name}" for name in tables).encode())
    connection.execute("SELECT setval(seqrelid, seqstart, false) FROM pg_sequence")


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _create(server: Server, template: str | None) -> str:
    name = f"test_{uuid.uuid4().hex[:16]}"
    copy = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copy)
    return name


def _drop(server: Server, name: str) -> None:
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
