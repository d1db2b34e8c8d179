"""The SQL that makes the role of the running processes: it may do what they do, and no more."""

import re
from collections.abc import Iterator
from typing import Final

from orchestrator.errors import UsageError
from orchestrator.ledger.schema import flow_audit, metadata

RUNTIME: Final = "flow_runtime"
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_APPENDED: Final = (flow_audit,)
"""Tables that only grow: their rows are not changed, and removed by the owner of the schema alone."""


def runtime_role(role: str = RUNTIME, schema: str = "public") -> str:
    """For the owner of the schema to run, again after each upgrade: it gives what a new release needs, and takes
    nothing that was given otherwise. The role has no password.

    Raises:
        UsageError: the role or the schema has a name that would have to be quoted.
    """
    for name in (role, schema):
        if not _PLAIN.fullmatch(name):
            raise UsageError(f"{name[:100]!r} is not a plain name. Fix: use small letters, digits and `_`.")
    return "\n".join(_statements(role, schema)) + "\n"


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
