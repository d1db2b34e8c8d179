"""Workers, schema, doctor, and what every command does when a server or a setting is missing."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis

from orchestrator.client import Client
from orchestrator.core.facts import WorkerInfo
from orchestrator.doctor import database
from orchestrator.engine import workers
from orchestrator.ledger import migrate
from orchestrator.settings import Settings
from tests.cli.conftest import Cli
from tests.support import play
from tests.support.row_counts import Counted
from tests.support.small_flows import hello

LEDGER_COMMANDS = [
    ["run", "ls"],
    ["run", "start", "hello", "-i", "name=x"],
    ["run", "show", "01a1fc93"],
    ["run", "watch", "01a1fc93"],
    ["run", "cancel", "01a1fc93"],
    ["run", "retry", "01a1fc93"],
    ["run", "events", "01a1fc93"],
    ["run", "result", "01a1fc93"],
    ["run", "explain", "01a1fc93/greet"],
    ["flow", "ls"],
    ["flow", "show", "hello"],
    ["flow", "graph", "hello"],
    ["flow", "enable", "hello"],
    ["flow", "disable", "hello"],
    ["worker", "ls"],
    ["queue", "ls"],
]


def _worker(client: Client, **given: object) -> None:
    facts = {
        "id": "host/1/abc",
        "host": "host",
        "pid": 1,
        "pool": "prefork",
        "concurrency": 2,
        "prefetch": 8,
        "queues": ("default",),
        "handlers": ("hello.greet", "hello.measure"),
        "release": "1",
    }
    workers.hello(client.ledger, WorkerInfo(**{**facts, **given}))  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [*LEDGER_COMMANDS, ["db", "upgrade"], ["db", "current"], ["worker"]])
def test_without_settings_the_fix_is_told(cli: Cli, command: list[str]) -> None:
    said = cli(*command, code=2)
    assert "ORCHESTRATOR_DATABASE_URL is not set" in said.err
    assert "orchestrator dev" in said.err
    assert said.out == ""


@pytest.mark.parametrize("command", [*LEDGER_COMMANDS, ["db", "upgrade"], ["db", "current"], ["db", "sql"]])
def test_a_database_that_is_away_is_told_in_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/none")
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "redis://127.0.0.1:1/0")
    said = cli(*command, code=1)
    assert said.err.count("\n") == 1
    assert "cannot be reached" in said.err
    assert "Fix:" in said.err
    assert "secret" not in said.err


@pytest.mark.parametrize("command", LEDGER_COMMANDS)
def test_an_empty_database_names_the_command_to_run(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, empty_db_url: str, broker_url: str, command: list[str]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", empty_db_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", broker_url)
    assert "orchestrator db upgrade" in cli(*command, code=1).err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["worker", "--pool", "fork"], "prefork"),
        (["worker", "--concurrency", "0"], "--concurrency"),
        (["worker", "--processes", "0"], "--processes"),
        (["worker", "--concurrency", "many"], "--concurrency"),
        (["worker", "lst"], "lst"),
        (["flower", "--port", "99999"], "--port"),
        (["flower", "--address", "0.0.0.0"], "--basic-auth"),
        (["dev", "--workers", "0"], "--workers"),
        (["dev", "--pool", "fork"], "--pool"),
        (["dev", "--port-base", "80"], "--port-base"),
        (["dev", "-o", "xml"], "--output"),
        (["doctor", "-o", "xml"], "'--output': 'xml' is not one of"),
        (["db", "frobnicate"], "frobnicate"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_option_is_a_usage_error(cli: Cli, stack: Client, command: list[str], message: str) -> None:
    said = cli(*command, code=2)
    assert message in said.err
    assert said.out == ""


def test_queue_ls(cli: Cli, stack: Client) -> None:
    assert "No queue" in cli("queue", "ls").err
    stack.start("hello", name="you")
    (row,) = cli("queue", "ls", "-o", "json").json
    assert (row["queue"], row["ready"], row["running"], row["workers"]) == ("default", 1, 0, [])
    assert row["messages"] is not None
    assert "none is live" in cli("queue", "ls").out
    _worker(stack)
    head, line = cli("queue", "list").out.splitlines()
    assert head.split() == ["queue", "ready", "oldest", "running", "workers", "messages"]
    assert "none is live" not in line


def test_a_misspelt_setting_stops_every_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_LEESE", "30s")
    for command in (["run", "ls"], ["worker"], ["dev"], ["doctor"], ["db", "current"]):
        assert "did you mean ORCHESTRATOR_LEASE?" in cli(*command, code=2).err


def test_worker_ls(cli: Cli, stack: Client) -> None:
    said = cli("worker", "ls")
    assert (said.out, "No worker" in said.err) == ("", True)
    _worker(stack)
    assert cli("worker", "ls", "-o", "json").json[0]["handlers"] == ["hello.greet", "hello.measure"]
    line = cli("worker", "list").out.splitlines()[1]
    assert "prefork/2" in line
    assert "not yet" in line
    with stack.ledger.auto() as tx:
        tx.exec_driver_sql("UPDATE flow_workers SET consumed_at = now(), seen_at = now() - interval '1 hour'")
    line = cli("worker", "ls").out.splitlines()[1]
    assert "(dead)" in line
    assert line.endswith(" no")
    with stack.ledger.auto() as tx:
        tx.exec_driver_sql("UPDATE flow_workers SET pool = 'keeper', concurrency = 0, queues = '{}', handlers = '{}'")
    assert "takes no steps" in cli("worker", "ls").out.splitlines()[1]


def test_worker_drain(cli: Cli, stack: Client) -> None:
    """Told by way of the ledger; it begins when it next says that it is there."""
    assert "worker ls" in cli("worker", "drain", "nowhere", code=3).err
    _worker(stack)
    assert cli("worker", "drain", "host").out.startswith("host/1/abc  draining, told by ")
    assert "draining, told by" in cli("worker", "ls").out.splitlines()[1]
    assert cli("worker", "drain", "host/1/abc", "--undo").out == "host/1/abc  serving\n"
    assert "not yet" in cli("worker", "ls").out.splitlines()[1]
    cli("worker", "drain", "host/1/abc")
    workers.seen(stack.ledger, "host/1/abc", consuming=True)
    assert "stopping, told" in cli("worker", "ls").out.splitlines()[1]
    assert "is stopping already" in cli("worker", "drain", "host", "--undo", code=7).err
    actions = [row.action for row in reversed(stack.audit.listed())]
    assert actions == ["worker.drain", "worker.undrain", "worker.drain"]


def test_db_current_upgrade_and_sql(cli: Cli, monkeypatch: pytest.MonkeyPatch, empty_db_url: str) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", empty_db_url)
    head = migrate.head()
    said = cli("db", "current")
    assert (said.out, f"needs {head}" in said.err) == ("none\n", True)
    assert "CREATE TABLE flow_runs" in cli("db", "sql").out
    assert f"Upgraded from nothing to {head}" in cli("db", "upgrade").err
    assert "already" in cli("db", "upgrade").err
    assert cli("db", "current", "-o", "json").json == {"current": head, "head": head, "up_to_date": True}
    assert "up to date" in cli("db", "sql").out
    assert "CREATE TABLE flow_runs" in cli("db", "sql", "--all").out


def _doctor(cli: Cli, code: int) -> dict[str, dict[str, str]]:
    return {one["check"]: one for one in cli("doctor", "-o", "json", code=code).json}


def test_doctor_is_content_with_a_good_installation(cli: Cli, stack: Client) -> None:
    _worker(stack)
    workers.seen(stack.ledger, "host/1/abc", consuming=True)
    found = _doctor(cli, 0)
    # The test's own servers are embedded, without `dev`, and keep nothing.
    assert {one["status"] for name, one in found.items() if name not in {"servers", "broker persistence"}} == {"pass"}
    table = cli("doctor").out
    assert table.splitlines()[0].split() == ["status", "check", "finding", "fix"]


def test_doctor_is_content_with_a_keeper_where_workers_may_go_to_zero(cli: Cli, stack: Client) -> None:
    _worker(stack)
    with stack.ledger.auto() as tx:
        tx.exec_driver_sql("UPDATE flow_workers SET pool = 'keeper', concurrency = 0, queues = '{}', handlers = '{}'")
    found = _doctor(cli, 0)["workers"]
    assert (found["status"], found["finding"]) == ("pass", "none is live; time is kept by 1 keeper")


def test_doctor_finds_queues_that_nobody_serves(cli: Cli, stack: Client) -> None:
    stack.start(hello, name="x")
    found = _doctor(cli, 1)
    assert found["workers"]["status"] == "warn"
    assert "hello.greet on queue default" in found["queues"]["finding"]
    assert "orchestrator worker" in found["queues"]["fix"]
    _worker(stack, queues=("other",))
    assert _doctor(cli, 1)["queues"]["status"] == "fail"
    _worker(stack)
    found = _doctor(cli, 0)
    assert found["queues"]["status"] == "pass"
    assert "take no messages" in found["workers"]["finding"]


def test_doctor_tells_of_missing_migrations(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, empty_db_url: str, broker_url: str
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", empty_db_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", broker_url)
    assert "orchestrator db upgrade" in _doctor(cli, 1)["migrations"]["fix"]


def test_doctor_tells_of_an_evicting_broker_and_of_embedded_servers(cli: Cli, stack: Client, broker_url: str) -> None:
    with redis.Redis.from_url(broker_url) as broker:
        broker.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = _doctor(cli, 1)
        finally:
            broker.config_set("maxmemory-policy", "noeviction")
    assert "noeviction" in found["broker eviction"]["fix"]
    if found["servers"]["status"] == "warn":  # with servers of one's own there is nothing to warn of
        assert "production" in found["servers"]["fix"]


def test_doctor_names_servers_that_are_away_or_not_set(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _doctor(cli, 1)
    assert "ORCHESTRATOR_DATABASE_URL is not set" in found["database"]["finding"]
    assert "ORCHESTRATOR_BROKER_URL is not set" in found["broker"]["finding"]
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/none")
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    found = _doctor(cli, 1)
    assert "does not answer" in found["database"]["finding"]
    assert "does not answer" in found["broker"]["finding"]
    assert "secret" not in str(found)


def test_doctor_measures_the_clock(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for ahead, status, code in ((timedelta(seconds=2), "warn", 0), (timedelta(minutes=1), "fail", 1)):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None, _ahead: timedelta = ahead) -> datetime:  # type: ignore[override]
                return datetime.now(UTC) + _ahead

        monkeypatch.setattr(database, "datetime", Clock)
        assert _doctor(cli, code)["clock"]["status"] == status


def _process(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")},
        "ORCHESTRATOR_DATABASE_URL": settings.require_database_url(),
        "ORCHESTRATOR_BROKER_URL": settings.require_broker_url(),
    }
    command = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_broker_that_is_down_delays_a_run_and_says_so(
    cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", "redis://127.0.0.1:1/0")
    said = cli("run", "start", "hello", "-i", "name=x")
    assert "Nothing is lost" in said.err
    assert str(stack.runs()[0].id) == said.out.strip()


def test_it_is_a_program_too(stack: Client, settings: Settings) -> None:
    """`python -m orchestrator`: stdout and the exit code as a shell sees them."""
    said = _process(settings, "run", "start", "hello", "-i", "name=x")
    assert said.returncode == 0
    assert said.stdout.strip() == str(stack.runs()[0].id)
    assert _process(settings, "run", "start", "helo").returncode == 3
    assert "flow-orchestrator" not in _process(settings, "--version").stderr


def test_a_reader_that_leaves_is_no_error(stack: Client, settings: Settings) -> None:
    stack.start_many(hello, [{"name": "x"}] * 900)
    env = {"ORCHESTRATOR_DATABASE_URL": settings.require_database_url(), "PATH": os.environ["PATH"]}
    line = f"{sys.executable} -m orchestrator run ls --limit 1000 -o json | head -1"
    said = subprocess.run(
        ["bash", "-c", line], env=env, capture_output=True, text=True, timeout=120, check=False, cwd=Path.cwd()
    )
    assert (said.stdout, said.stderr) == ("[\n", "")


def test_nothing_is_written_by_looking(cli: Cli, stack: Client, counted: Counted) -> None:
    run = stack.start(hello, name="x")
    play.fail(stack.ledger, run.id, "greet")
    before = counted()
    for command in (["run", "ls"], ["run", "show"], ["run", "events"], ["run", "explain"], ["flow", "ls"], ["doctor"]):
        needs = [str(run.id)] if command[-1] in {"show", "events", "explain"} else []
        cli(*command, *needs, code=None)
    with psycopg.connect(stack.settings.require_database_url().replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM flow_runs").fetchone() == (1,)
    assert counted() == before
