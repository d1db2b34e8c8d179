"""The migrations make the schema that the metadata describes, once, however many processes ask."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg.errors import CheckViolation
from sqlalchemy import Connection

from orchestrator.core.states import ATTEMPT, HALT, STORED_RUN, TICK, StepStatus
from orchestrator.errors import SchemaBehind
from orchestrator.ledger import migrate
from orchestrator.ledger.schema import FUNCTIONS, metadata
from orchestrator.ledger.tx import normal_url
from tests.support.eventually import eventually
from tests.support.race import Later, race

CATALOG = {
    "columns": """SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, collation_name,
                         is_identity FROM information_schema.columns WHERE table_schema = 'public'""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
                       WHERE connamespace = 'public'::regnamespace AND contype <> 'n'""",
    "options": """SELECT relname, reloptions FROM pg_class
                   WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')""",
    "comments": """SELECT objoid::regclass::text, objsubid, description FROM pg_description
                    WHERE objoid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)""",
    "domains": """SELECT t.typname, pg_get_constraintdef(c.oid), c.conname FROM pg_type t
                   JOIN pg_constraint c ON c.contypid = t.oid""",
    "functions": """SELECT proname, prosrc, provolatile, proparallel FROM pg_proc
                     WHERE pronamespace = 'public'::regnamespace""",
}


def catalog(url: str) -> dict[str, list[str]]:
    """What the server says about the schema; alembic's own table left out."""
    with psycopg.connect(url) as connection:
        found = {name: connection.execute(query).fetchall() for name, query in CATALOG.items()}
    return {name: sorted(str(row) for row in rows if "alembic_version" not in str(row)) for name, rows in found.items()}


def test_migrations_and_metadata_agree(db_url: str) -> None:
    """By Alembic's own comparison."""
    engine = sqlalchemy.create_engine(normal_url(db_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_and_metadata_give_the_same_catalog(db_url: str, empty_db_url: str) -> None:
    """What the comparison does not look at too: CHECKs, partial indexes, defaults, storage, functions, comments."""
    engine = sqlalchemy.create_engine(normal_url(empty_db_url))

    def build(connection: Connection) -> None:
        for function in FUNCTIONS.values():
            connection.exec_driver_sql(function)
        metadata.create_all(connection)

    with engine.begin() as connection:
        build(connection)
    engine.dispose()
    migrated, built = catalog(db_url), catalog(empty_db_url)
    for name in CATALOG:
        assert migrated[name] == built[name], name


@pytest.mark.parametrize(
    ("domain", "states"),
    [
        ("flow_run_status", STORED_RUN),
        ("flow_run_halt", HALT),
        ("flow_step_status", StepStatus),
        ("flow_attempt_status", ATTEMPT),
        ("flow_tick_outcome", TICK),
    ],
)
def test_domains_hold_exactly_the_declared_states(db_url: str, domain: str, states: Iterable[str]) -> None:
    """The table in `core/states.py` is the one list."""
    with psycopg.connect(db_url) as connection:
        query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = %s::regtype"
        (definition,) = connection.execute(query, [domain]).fetchone() or ("",)
    assert set(re.findall(r"'(\w+)'", definition)) == {str(state) for state in states}


@pytest.mark.parametrize("table", ["flow_runs", "flow_steps", "flow_step_attempts"])
def test_no_table_takes_another_state(db_url: str, table: str) -> None:
    """The domains are in use."""
    with psycopg.connect(db_url) as connection, pytest.raises(CheckViolation, match="violates check constraint"):
        connection.execute(f"INSERT INTO {table} (status) VALUES ('asleep')")


def test_tables_of_the_hot_path_have_no_checks_of_their_own(db_url: str) -> None:
    """Each would be parsed and planned again by every statement (ADR 0009)."""
    with psycopg.connect(db_url) as connection:
        query = "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0"
        assert connection.execute(query).fetchall() == []


def test_upgrade_twice_changes_nothing(empty_db_url: str) -> None:
    """The second call sees the first one's work."""
    assert migrate.current(empty_db_url) is None
    migrate.upgrade(empty_db_url)
    before = catalog(empty_db_url)
    migrate.upgrade(empty_db_url)
    assert catalog(empty_db_url) == before
    assert migrate.current(empty_db_url) == migrate.head()


def test_threads_that_upgrade_at_once_take_turns(empty_db_url: str) -> None:
    """One migrates, the others find it done."""
    assert race(*(lambda: migrate.upgrade(empty_db_url) for _ in range(3))) == [None] * 3
    assert migrate.current(empty_db_url) == migrate.head()


def test_processes_that_upgrade_at_once_take_turns(empty_db_url: str) -> None:
    """The lock is the database's, so it holds between processes."""
    code = "import sys; from orchestrator.ledger import migrate; migrate.upgrade(sys.argv[1])"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-c", code, empty_db_url]
    started = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root, env=environment) for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    assert migrate.current(empty_db_url) == migrate.head()


def test_the_printed_sql_makes_the_same_schema(db_url: str, empty_db_url: str) -> None:
    """A DBA may run it with any client."""
    text = migrate.sql()
    with psycopg.connect(empty_db_url, autocommit=True) as connection:
        connection.execute(text.encode())
    assert migrate.current(empty_db_url) == migrate.head()
    assert catalog(empty_db_url) == catalog(db_url)
    migrate.upgrade(empty_db_url)


def test_the_printed_sql_of_a_current_schema_is_empty(db_url: str) -> None:
    """Nothing to run, and it says so."""
    assert migrate.sql(db_url) == "-- The schema is up to date.\n"


def test_check_names_the_command(empty_db_url: str, db_url: str) -> None:
    """A process that may not migrate refuses to start on an old schema; a newer one is fine."""
    with pytest.raises(SchemaBehind, match="orchestrator db upgrade"):
        migrate.check(empty_db_url)
    migrate.check(db_url)
    with psycopg.connect(db_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    migrate.check(db_url)


def test_a_newer_schema_is_left_alone(db_url: str) -> None:
    """A worker of the release before restarts in the middle of a deploy."""
    with psycopg.connect(db_url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    migrate.check(db_url)
    migrate.upgrade(db_url)
    assert migrate.sql(db_url) == "-- The schema is up to date.\n"
    assert migrate.current(db_url) == "9999"


def test_a_process_that_waited_for_a_newer_release_to_migrate_leaves_its_schema_alone(empty_db_url: str) -> None:
    """Both found an old schema and met at the lock: what the winner made is looked at again."""
    with psycopg.connect(empty_db_url.replace("+psycopg", ""), autocommit=True) as newer:
        newer.execute("SELECT pg_advisory_lock(%s)", [migrate.LOCK])
        older = Later(lambda: migrate.upgrade(empty_db_url))
        waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
        eventually(lambda: newer.execute(waits).fetchall())
        newer.execute("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)")
        newer.execute("INSERT INTO alembic_version VALUES ('9999')")
        newer.execute("SELECT pg_advisory_unlock(%s)", [migrate.LOCK])
        older.result()
    assert migrate.current(empty_db_url) == "9999"


def test_the_clock_is_the_databases_own(db_url: str) -> None:
    """`flow_now()` is the wall clock at the call, not the start of the transaction."""
    with psycopg.connect(db_url) as connection:
        first = connection.execute("SELECT flow_now(), now()").fetchone()
        connection.execute("SELECT pg_sleep(0.02)")
        second = connection.execute("SELECT flow_now(), now()").fetchone()
    assert first is not None
    assert second is not None
    assert second[0] > first[0]
    assert second[1] == first[1]


BEFOREHAND = """
CREATE INDEX CONCURRENTLY soon ON flow_steps (queue_deadline, run_id, step_key) WHERE queue_deadline IS NOT NULL;
DROP INDEX IF EXISTS ix_flow_steps_queue_deadline;
ALTER INDEX soon RENAME TO ix_flow_steps_queue_deadline;
CREATE INDEX CONCURRENTLY ix_flow_step_claims_stop ON flow_step_claims (stop_at)
 WHERE expires_at IS NOT NULL AND stop_at IS NOT NULL;
CREATE INDEX CONCURRENTLY ix_flow_runs_key ON flow_runs (trigger_key)
 WHERE trigger_key IS NOT NULL AND scheduled_for IS NULL
"""


def test_indexes_that_were_made_beforehand_are_kept(empty_db_url: str, db_url: str) -> None:
    """Making one holds off writes for as long as it takes to read the table: concurrently it does not."""
    engine, config = sqlalchemy.create_engine(normal_url(empty_db_url)), migrate._config()
    with engine.begin() as old:
        config.attributes["connection"] = old
        command.upgrade(config, "0002")
    engine.dispose()
    names = "('ix_flow_steps_queue_deadline', 'ix_flow_step_claims_stop', 'ix_flow_runs_key')"
    query = f"SELECT relname, oid FROM pg_class WHERE relname IN {names}"
    with psycopg.connect(empty_db_url, autocommit=True) as connection:
        for statement in BEFOREHAND.split(";"):
            connection.execute(statement)
        made = sorted(connection.execute(query).fetchall())
        migrate.upgrade(empty_db_url)
        assert sorted(connection.execute(query).fetchall()) == made
    assert len(made) == 3
    assert catalog(empty_db_url) == catalog(db_url)
