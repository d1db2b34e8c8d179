"""Alembic from inside the product: the migrations are found in the wheel or in the checkout, in that order."""

import io
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from orchestrator.core.reach import PLAIN, Reach
from orchestrator.errors import SchemaBehind, Unavailable
from orchestrator.ledger.session import Sessions, driver_options
from orchestrator.ledger.tx import normal_url

LOCK: Final = 7_355_608_117
"""Advisory lock held while migrating: processes that start together take turns."""
OLDEST_SERVER: Final = 15
"""The oldest PostgreSQL that the statements are tested on."""
_UNHURRIED: Final = (
    "SELECT set_config('statement_timeout', '0', TRUE), set_config('idle_in_transaction_session_timeout', '0', TRUE),"
    " set_config('lock_timeout', '0', TRUE)"
)
"""A migration takes as long as it takes, and so does the wait for another one, whatever limits the role has."""


def scripts() -> Path:
    """The folder with `env.py` and `versions/`."""
    for folder in (Path(str(files("orchestrator"))) / "_migrations", Path(__file__).parents[2] / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise Unavailable("The migrations are not installed. Fix: reinstall flow-orchestrator.")


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return config


def _engine(url: str, reach: Reach) -> Engine:
    made = create_engine(
        normal_url(url),
        poolclass=NullPool,
        connect_args={"connect_timeout": 10, **driver_options(reach.pooler)},
        isolation_level="READ COMMITTED",
    )
    Sessions({}, reach.pooler).used_by(made)
    return made


def upgrade(url: str, reach: Reach = PLAIN) -> None:
    """Bring the schema to this release. Does nothing when it is there, or newer; two processes at once are safe: the
    lock belongs to the transaction that migrates, so it holds behind every kind of pooler.

    Raises:
        Unavailable: the server is too old.
    """
    engine = _engine(url, reach)
    with engine.connect() as connection:
        _check_server(connection)
        if suffices(revision(connection)):
            return
    with engine.begin() as connection:
        connection.exec_driver_sql(_UNHURRIED)
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        if suffices(revision(connection)):
            return  # whoever had the lock before may be of a newer release, whose revisions are not known here
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _check_server(connection: Connection) -> None:
    found = str(connection.exec_driver_sql("SHOW server_version").scalar_one())
    if int(connection.exec_driver_sql("SHOW server_version_num").scalar_one()) // 10_000 < OLDEST_SERVER:
        raise Unavailable(f"PostgreSQL {found} is too old. Fix: upgrade it to PostgreSQL {OLDEST_SERVER} or newer.")


def head() -> str:
    """The revision this release needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def suffices(found: str | None) -> bool:
    """Whether a schema at revision `found` is this release's or a newer one, which older releases can work with."""
    return found is not None and found not in _older()


@cache
def _older() -> frozenset[str]:
    """Revisions before this release's. Every file of them is read for that."""
    revisions = ScriptDirectory.from_config(_config())
    return frozenset({one.revision for one in revisions.walk_revisions()} - {str(revisions.get_current_head())})


def revision(connection: Connection) -> str | None:
    """The revision the database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def current(url: str, reach: Reach = PLAIN) -> str | None:
    """The revision the database is at; None for an empty one."""
    engine = _engine(url, reach)
    with engine.connect() as connection:
        return revision(connection)


def sql(url: str | None = None, reach: Reach = PLAIN) -> str:
    """The statements that `upgrade` would run (from an empty database when `url` is None), for a DBA."""
    output = io.StringIO()
    start = current(url, reach) if url else None
    if suffices(start):
        return "-- The schema is up to date.\n"
    command.upgrade(_config(output), f"{start}:head" if start else "head", sql=True)
    return output.getvalue()


def check(url: str, reach: Reach = PLAIN) -> None:
    """Raise `Unavailable` unless the server, and `SchemaBehind` unless the schema, is what this release needs."""
    engine = _engine(url, reach)
    with engine.connect() as connection:
        _check_server(connection)
        found, needed = revision(connection), head()
    if suffices(found):
        return
    raise SchemaBehind(
        f"The schema is at revision {found or 'none'}, this release needs {needed}. Fix: run `orchestrator db "
        f"upgrade`.",
        found=found,
        needed=needed,
    )
