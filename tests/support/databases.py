"""Databases that live as long as one test."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.support.servers import Server


@contextmanager
def created(server: Server, template: str | None = None) -> Iterator[str]:
    """The name of a new database, a copy of `template` if one is given; dropped at the end with its connections."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    copy = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copy)
    try:
        yield name
    finally:
        _drop(server, name)


def _drop(server: Server, name: str) -> None:
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
