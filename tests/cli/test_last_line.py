"""The last line on stderr: one line, in our words, without SQL, a traceback or characters that a terminal obeys."""

import errno

import psycopg
import pytest

from orchestrator import cli
from orchestrator.client import Client
from orchestrator.errors import DatabaseFailed, OrchestratorError
from orchestrator.settings import Settings
from tests.cli.conftest import Cli
from tests.support.small_flows import hello


def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException) -> str:
    def app(**options: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    return capsys.readouterr().err


def test_control_characters_are_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, capsys, OrchestratorError("a\x1b[31mb\x07")) == "error: a [31mb  [error]\n"


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = ended(monkeypatch, capsys, OSError(errno.ENOSPC, "No space left on device", "/data/dev.json"))
    assert said == "error: No space left on device (/data/dev.json). Fix: make room there, and try again.\n"


REFUSING = """
CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file "base/1": No space left on device' USING ERRCODE = '{state}'; END $$;
CREATE TRIGGER test_refuse BEFORE INSERT ON flow_runs EXECUTE FUNCTION test_refuse();
"""


@pytest.mark.parametrize(
    ("state", "fix"),
    [("53100", "make room on the disk"), ("58030", "its disk or its files"), ("XX001", "make room on the disk")],
)
def test_what_the_database_cannot_do_is_one_line(
    cli: Cli, settings: Settings, db_url: str, monkeypatch: pytest.MonkeyPatch, state: str, fix: str
) -> None:
    with Client(settings) as client:
        client.start(hello, name="x")
    with psycopg.connect(db_url) as admin:
        admin.execute(REFUSING.format(state=state).encode())
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", db_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", settings.require_broker_url())
    said = cli("run", "start", "hello", "-i", "name=x", code=1)
    assert "No space left on device" in said.err
    assert fix in said.err
    assert "INSERT" not in said.err
    assert said.err.count("\n") == 1
    with Client(settings) as client, pytest.raises(DatabaseFailed) as caught:
        client.start("hello", name="x")
    assert caught.value.sqlstate == state


def test_a_password_with_an_at_sign_is_not_printed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://me:geh@eim@127.0.0.1:1/x")
    said = cli("run", "ls", code=2)
    assert "%40" in said.err
    assert "eim" not in said.err
