"""What is said of a pooler that is not what was declared, with the one thing to do about it."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg

from orchestrator.core.reach import Pooler
from orchestrator.errors import PoolerUnfit

_DECLARED: Final = "ORCHESTRATOR_DATABASE_POOLER"
_TRANSACTION: Final = (
    f"set {_DECLARED}=transaction and give the role its settings (`orchestrator db role-sql --settings` prints them); "
    f"or set `pool_mode = session` in PgBouncer and {_DECLARED}=session."
)
_SESSION: Final = (
    "use a pooler that keeps one session for each connection (PgBouncer: `pool_mode = session` and "
    f"`server_reset_query = DISCARD ALL`), or set {_DECLARED}=transaction and give the role its settings "
    "(`orchestrator db role-sql --settings` prints them)."
)


def undeclared(connection: "psycopg.Connection[Any]", *, keeps_session: bool) -> PoolerUnfit:
    """A pooler that nobody told us of. A URL that should lead past it is corrected."""
    if keeps_session:
        return _error(
            f"{_at(connection)} is a pooler, and none was declared; it keeps one session for each connection",
            f"set {_DECLARED}=session; a URL that should lead to PostgreSQL itself (…_DIRECT_URL) is to be corrected.",
        )
    return _error(
        f"{_at(connection)} is a pooler, and none was declared; it gives each transaction another session, so that "
        "time limits and prepared statements are somebody else's",
        _TRANSACTION,
    )


def shared(connection: "psycopg.Connection[Any]", declared: Pooler) -> PoolerUnfit:
    """A session that somebody else has used, or uses, in between."""
    if declared is Pooler.NONE:
        return undeclared(connection, keeps_session=False)
    return _error(
        f"The pooler at {_at(connection)} gives a connection another session in each transaction, or one that was not "
        f"reset, and {_DECLARED}=session is set: time limits and prepared statements are somebody else's",
        _SESSION,
    )


def no_transactions(connection: "psycopg.Connection[Any]") -> PoolerUnfit:
    """A pooler in statement mode."""
    return _error(
        f"The pooler at {_at(connection)} allows no transactions",
        f"set `pool_mode = transaction` or `pool_mode = session` in PgBouncer for this database, and {_DECLARED} to "
        "the same.",
    )


def role_settings(
    connection: "psycopg.Connection[Any]", role: str, wrong: Mapping[str, str | None], right: Mapping[str, str]
) -> PoolerUnfit:
    """In transaction mode the role brings the limits, and has not brought these."""
    differ = "; ".join(f"{name} is {found!r} and must be {right[name]!r}" for name, found in sorted(wrong.items()))
    return _error(
        f"Behind the pooler at {_at(connection)} the sessions of role {role} have other settings than ours: {differ}",
        f"run what `orchestrator db role-sql --settings --role {role}` prints, with this process's environment, and "
        "then RECONNECT in the pooler's console: sessions that are open keep what they have.",
    )


def _error(said: str, fix: str) -> PoolerUnfit:
    return PoolerUnfit(f"{said}. Fix: {fix}", fix=fix, refused=True)


def _at(connection: "psycopg.Connection[Any]") -> str:
    return f"{connection.info.host}:{connection.info.port}"
