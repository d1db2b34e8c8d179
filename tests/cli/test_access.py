"""Keys, users, the audit, and the role of the running processes."""

import io

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from orchestrator.client import Client
from orchestrator.engine.access import audit, keys, sessions, users
from orchestrator.engine.flows import register
from orchestrator.ledger import migrate
from orchestrator.ledger.tx import Ledger
from tests.cli.conftest import Cli
from tests.support import play
from tests.support.small_flows import hello


def test_a_key_is_printed_once(cli: Cli, stack: Client) -> None:
    said = cli("key", "create", "--name", "ci", "--role", "operator", "--scope", "runs", "--flow", "hello")
    text = said.out.strip()
    row = keys.authenticate(stack.ledger, text)
    assert row is not None
    assert (row.name, row.role, list(row.scopes), list(row.flows)) == ("ci", "operator", ["runs"], ["hello"])
    assert text not in said.err
    for command in (["key", "ls"], ["key", "ls", "-o", "json"], ["audit", "ls"], ["audit", "ls", "-o", "json"]):
        shown = cli(*command)
        assert row.id in shown.out
        assert text.split("_")[2] not in shown.out + shown.err


def test_a_key_for_a_time(cli: Cli, stack: Client) -> None:
    made = cli("key", "create", "--name", "ci", "--expires", "90d", "-o", "json").json
    assert keys.authenticate(stack.ledger, made["key"]) is not None
    assert made["expires_at"] > made["created_at"]
    assert "would have expired" in cli("key", "create", "--name", "old", "--expires", "2020-01-01", code=2).err


def test_rotate_and_revoke(cli: Cli, stack: Client) -> None:
    first = cli("key", "create", "--name", "ci").out.strip()
    second = cli("key", "rotate", "ci", "--overlap", "1h").out.strip()
    assert [row.state for row in keys.listed(stack.ledger)] == ["replaced", "live"]
    assert cli("key", "revoke", "ci", "--reason", "it leaked").out.count("revoked") == 2
    assert [keys.authenticate(stack.ledger, text) for text in (first, second)] == [None, None]
    assert "key create" in cli("key", "ls").err
    assert cli("key", "ls", "--all").out.count("revoked") == 2
    assert "it leaked" in cli("audit", "ls", "--action", "key.revoke").out
    assert "did you mean" not in cli("key", "revoke", "ci", code=3).err


def test_a_name_that_is_taken_is_a_conflict(cli: Cli, stack: Client) -> None:
    cli("key", "create", "--name", "ci")
    assert "key rotate" in cli("key", "create", "--name", "ci", code=7).err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "<b>"], "cannot be the name"),
        (["--name", "x", "--role", "root"], "--role"),
        (["--name", "x", "--scope", "all"], "--scope"),
        (["--name", "x", "--expires", "soon"], "length of time"),
    ],
)
def test_a_wrong_option_makes_no_key(cli: Cli, stack: Client, options: list[str], message: str) -> None:
    assert message in cli("key", "create", *options, code=2).err
    assert keys.listed(stack.ledger, ended=True) == []


def test_users(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(password: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))

    typed("four plain words here")
    assert "--password-stdin" in cli("user", "create", "ann", code=2).err
    assert cli("user", "create", "ann", "--role", "operator", "--password-stdin").out == "ann  operator\n"
    typed("short")
    assert "characters" in cli("user", "passwd", "ann", "--password-stdin", code=2).err
    typed("other plain words here")
    cli("user", "passwd", "ann", "--password-stdin")
    assert cli("user", "role", "ann", "admin").out == "ann  admin\n"
    cli("user", "disable", "ann", "--reason", "left")
    (row,) = cli("user", "ls", "-o", "json").json
    assert (row["name"], row["role"], row["disabled"]) == ("ann", "admin", True)
    cli("user", "enable", "ann")
    assert users.listed(stack.ledger)[0].disabled_at is None
    assert "ann" in cli("user", "ls").out
    said = [row.action for row in audit.listed(stack.ledger)]
    assert said == ["user.enable", "user.disable", "user.role", "user.password", "user.create"]
    assert sessions.listed(stack.ledger) == []


def test_the_audit_is_read_in_pages_and_purged_by_its_owner(cli: Cli, stack: Client) -> None:
    for name in ("a", "b", "c"):
        cli("key", "create", "--name", name, "--as", "ann")
    first = cli("audit", "ls", "--limit", "2", "--by", "ann")
    last = first.err.split("--before ")[1].split(".")[0]
    assert "name" in cli("audit", "ls", "--before", last).out
    assert len(cli("audit", "ls", "-o", "json").json) == 3
    assert "3 rows" in cli("audit", "purge", "--until", "0s", "--yes").err
    (left,) = cli("audit", "ls", "-o", "json").json
    assert (left["action"], left["was"]["rows"]) == ("audit.purge", 3)


@pytest.fixture
def runtime_url(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database as the role that `db role-sql` makes."""
    owner = stack.settings.require_database_url().replace("+psycopg", "")
    text = cli("db", "role-sql", "--role", "flow_test_runtime").out
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(text.encode())
        connection.execute(text.encode())  # again, after each upgrade
        connection.execute("ALTER ROLE flow_test_runtime PASSWORD 'pw'")
        place = connection.info
        url = f"postgresql://flow_test_runtime:pw@/{place.dbname}?host={place.host}&port={place.port}"
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", url)
    return url


def test_the_role_of_the_running_processes_does_their_work(runtime_url: str, cli: Cli) -> None:
    """Register, start, claim, finish, look, make a key: all with its rights."""
    migrate.upgrade(runtime_url)  # finds nothing to do
    ledger = Ledger.connect(runtime_url)
    try:
        register.register(ledger, hello.manifest)
    finally:
        ledger.close()
    run_id = cli("run", "start", "hello", "-i", "name=x").out.strip()
    with Client.from_env() as client:
        play.finish_hello(client.ledger, client.run(run_id).id)
    assert cli("run", "show", run_id, "-o", "json").json
    assert cli("key", "create", "--name", "ci").out.startswith("orc_")
    assert "key.create" in cli("audit", "ls").out


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE flow_audit SET actor = 'nobody'",
        "DELETE FROM flow_audit",
        "TRUNCATE flow_audit",
        "TRUNCATE flow_runs",
        "DROP TABLE flow_runs",
        "ALTER TABLE flow_audit ADD COLUMN x int",
        "CREATE TABLE mine (id int)",
        "UPDATE alembic_version SET version_num = '9999'",
    ],
)
def test_that_role_cannot_change_what_was_done_nor_the_schema(runtime_url: str, statement: str) -> None:
    with psycopg.connect(runtime_url) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(statement.encode())


def test_that_role_cannot_purge_the_audit(runtime_url: str, cli: Cli) -> None:
    cli("key", "create", "--name", "ci")
    said = cli("audit", "purge", "--until", "0s", "--yes", code=1)
    assert "permission denied" in said.err
    assert len(cli("audit", "ls", "-o", "json").json) == 1


def test_a_role_has_a_plain_name(cli: Cli) -> None:
    assert "plain name" in cli("db", "role-sql", "--role", "a; DROP TABLE x", code=2).err
