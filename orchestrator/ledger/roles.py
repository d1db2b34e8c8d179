"""The SQL that makes the role of the running processes: it may do what they do, and no more."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from orchestrator.errors import UsageError
from orchestrator.ledger.schema import flow_audit, metadata
from orchestrator.ledger.session import limits

RUNTIME: Final = "flow_runtime"
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_APPENDED: Final = (flow_audit,)
"""Tables that only grow: their rows are not changed, and removed by the owner of the schema alone."""


def runtime_role(limit: timedelta, role: str = RUNTIME, schema: str = "public", database: str | None = None) -> str:
    """For the owner of the schema to run, again after each upgrade: it gives what a new release needs, and takes
    nothing that was given otherwise. The role has no password. Its sessions begin with the settings that ours need,
    with `limit` for a statement; in one `database`, or in all.

    Raises:
        UsageError: the role, the schema or the database has a name that would have to be quoted.
    """
    _must_be_plain(role, schema)
    return "\n".join(_statements(role, schema)) + "\n" + settings(limit, role, database)


def settings(limit: timedelta, role: str = RUNTIME, database: str | None = None) -> str:
    """What a pooler in transaction mode cannot bring, for the role itself to run or whoever may alter it; in one
    `database`, or in all. Sessions that are open keep what they have.

    Raises:
        UsageError: a name would have to be quoted.
    """
    _must_be_plain(role, *([database] if database else ()))
    where = f"{role} IN DATABASE {database}" if database else role
    return "".join(f"ALTER ROLE {where} SET {name} = '{value}';\n" for name, value in limits(limit).items())


def _must_be_plain(*names: str) -> None:
    for name in names:
        if not _PLAIN.fullmatch(name):
            raise UsageError(f"{name[:100]!r} is not a plain name. Fix: use small letters, digits and `_`.")


def _statements(role: str, schema: str) -> Iterator[str]:
    appended = {table.name for table in _APPENDED}
    changed = sorted(table.name for table in metadata.sorted_tables if table.name not in appended)
    yield f"SET search_path TO {schema};"
    yield (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') "
        f"THEN CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE; END IF; END $$;"
    )
    yield f"GRANT USAGE ON SCHEMA {schema} TO {role};"
    yield f"GRANT SELECT ON alembic_version TO {role};"
    yield from (f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {role};" for name in changed)
    for name in sorted(appended):
        yield f"REVOKE ALL ON {name} FROM {role};"
        yield f"GRANT SELECT, INSERT ON {name} TO {role};"
