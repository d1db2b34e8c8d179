"""Errors that a handler raises when somebody else's database is away: they look like the ledger's, and are its own."""

import sqlite3
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import errors as pg
from sqlalchemy.exc import InterfaceError, OperationalError

KINDS: Final[tuple[Callable[[], Exception], ...]] = (
    lambda: OperationalError("SELECT 1", {}, psycopg.OperationalError("another server closed the connection")),
    lambda: ConnectionError("not yet"),
    lambda: OperationalError("SELECT 1", {}, sqlite3.OperationalError("no such table")),
    lambda: psycopg.OperationalError("connection to another server was lost"),
    lambda: InterfaceError("SELECT 1", {}, psycopg.InterfaceError("another connection is closed")),
    lambda: pg.SerializationFailure("could not serialize access on another server"),
)


def not_yet(number: int) -> Exception:
    """One of them, the same for the same number."""
    return KINDS[number % len(KINDS)]()
