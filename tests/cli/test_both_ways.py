"""What commands that look print over HTTP is what they print with a database; and what goes wrong on the way there."""

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator import Webhook, approval, env, flow, wait_for_signal
from orchestrator.client import Client
from orchestrator.core.access import Grant, Role
from orchestrator.engine.access import keys, users
from orchestrator.engine.access.keys import Actor
from orchestrator.engine.flows import register
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.engine.webhooks.receive import receive
from orchestrator.ledger import reads
from orchestrator.servers.secrets import References
from orchestrator.settings import Settings
from orchestrator.webhooks.request import Request
from tests.cli.conftest import Cli, Said
from tests.support import play
from tests.support.listening import Listening
from tests.support.listening import listening as listening_to
from tests.support.scheduled_flows import report
from tests.support.small_flows import fan, greet, hello

ROOT = Actor("root")
SECRET = "BOTH_WAYS_SECRET"
_LENGTH = r"\b\d+(\.\d+)? ?(ms|[smhd])( ?\d+[smh])*\b"
_CLOCK = re.compile(rf'"now": "[^"]*"|{_LENGTH}| +(?=\n)|(?<=  ) +')
"""How long ago something was, and how wide the columns are by that."""


@flow(webhooks=[Webhook("asked", scheme="github", secret=env(SECRET), input={"order": "@triggerBody()?.id"})])
def asking(order: str) -> object:
    return [wait_for_signal(int, name="paid", key=order), approval(bool, title="Ship it?", to="operator")]


@pytest.fixture
def way() -> str:
    """The environment begins with the servers."""
    return "database"


Switch = Callable[[str], None]


@pytest.fixture
def by(stack: Client, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    """Changes the way: `database` or `api`."""
    settings = stack.settings
    with listening.serving(stack) as url:

        def switch(way: str) -> None:
            for name, value in (
                ("DATABASE_URL", settings.require_database_url()),
                ("BROKER_URL", settings.require_broker_url()),
                ("API_URL", url),
            ):
                if (name == "API_URL") == (way == "api"):
                    monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
                else:
                    monkeypatch.delenv(f"ORCHESTRATOR_{name}", raising=False)

        yield switch


@pytest.fixture
def world(stack: Client) -> dict[str, str]:
    """Something of everything that there is to be looked at."""
    for one in (asking, report):
        register.register(stack.ledger, one.manifest)
    done, failed = stack.start(hello, name="you", tags=("a",)), stack.start(hello, name="x")
    wide, asked = stack.start(fan, count=30), stack.start(asking, order="o-1")
    play.finish_hello(stack.ledger, done.id)
    play.fail(stack.ledger, failed.id, "greet", "no greeting")
    again = failed.rerun(by="ann")
    again.cancel("enough", by="bob")
    play.succeed(stack.ledger, wide.id, "numbers", list(range(30)))
    operation = stack.operate("cancel", [failed.id], reason="a test")
    stack.schedule("report").pause("holidays", by="ann")
    stack.call(keys.create, "ci", Grant(Role.OPERATOR), ROOT)
    stack.call(users.create, "ann", Role.VIEWER, "four plain words here", ROOT)
    keeper = Gatekeeper(References({SECRET: "x"}))
    refused = receive(stack.ledger, keeper, "asked", Request.of(b"{}", {"x-hub-signature-256": "sha256=00"}))
    stack.flows.disable("fan", reason="tired", by="ann")
    return {
        "done": str(done.id),
        "failed": str(failed.id),
        "wide": str(wide.id),
        "asked": str(asked.id),
        "operation": str(operation.id),
        "delivery": str(refused.id),
    }


LOOKS = """
run ls | run ls flow:hello status:failed | run ls --tag a --inputs | run ls --limit 2 | run ls flow:nothing
run show {done} | run show {failed} {wide} | run show --all {wide} | run show --status ready {wide} | run show {asked}
run show {done}/greet | run show {failed}/greet | run explain {failed} | run explain {asked}/approval | run tree {done}
run events {done} | run events {done} --limit 2 | run logs {done} | run stats | run errors | run errors flow:fan
flow ls | flow show hello | flow show asking | flow versions hello | flow events fan | flow check --flows {code}
schedule ls | schedule ls report | schedule show report | schedule preview report | schedule history report
schedule events report | approval ls | approval ls --to nobody | approval show {asked}/approval | scaling
operation ls | operation show {operation} | operation outcomes {operation} | worker ls | queue ls | deploy status
subscription ls | webhook ls | webhook recent | webhook recent asked --refused | webhook show {delivery} | webhook stats
key ls | key ls --all | user ls | audit ls | audit ls --by root --limit 1
run show ffffffffffff | run show {done}/nothing | run ls flow:x:y | run ls --status lost | flow show helo
schedule show report/nothing | operation show ffffffff | approval show {done}/greet | webhook show ffffffff
"""
PLAIN = """
run graph {done} | run graph --mermaid {wide} | run graph --dot {done} | flow graph asking | flow graph hello --mermaid
run export flow:hello | run export status:cancelled
"""


def commands(text: str, world: dict[str, str]) -> list[list[str]]:
    lines = [part.strip() for line in text.strip().splitlines() for part in line.split(" | ")]
    return [line.format(**world).split() for line in lines]


def timeless(said: Said) -> Said:
    return Said(said.code, _CLOCK.sub("", said.out), _CLOCK.sub("", said.err))


@pytest.mark.parametrize(
    "form", ["table", pytest.param("json", marks=pytest.mark.slow), pytest.param("jsonl", marks=pytest.mark.slow)]
)
def test_commands_print_the_same(cli: Cli, by: Switch, world: dict[str, str], form: str) -> None:
    """Byte for byte, but for how long ago something was."""
    Path("flows_here.py").write_text("from tests.support.small_flows import fan, hello\n")
    wanted = [[*command, "-o", form] for command in commands(LOOKS, {**world, "code": "flows_here.py"})]
    wanted += commands(PLAIN, world) if form == "table" else []
    shown = 0
    for command in wanted:
        by("database")
        near = timeless(cli(*command, code=None))
        by("api")
        far = timeless(cli(*command, code=None))
        assert far == near, command
        shown += bool(far.out)
    assert shown > 40


def test_what_needs_the_database_says_so(cli: Cli, by: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    by("api")
    for command in (
        ["db", "upgrade"],
        ["db", "current"],
        ["db", "forget-store", "--yes"],
        ["audit", "purge", "--until", "1d", "--yes"],
        ["worker"],
        ["beat"],
        ["api"],
    ):
        said = cli(*command, code=2)
        assert "This needs the database itself; ORCHESTRATOR_API_URL is set" in said.err, command
        assert said.out == ""


def test_of_two_ways_the_api_is_taken_and_that_is_said_once(
    cli: Cli, by: Switch, stack: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    by("api")
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    said = cli("flow", "ls")
    assert "hello" in said.out
    assert said.err == "ORCHESTRATOR_API_URL and ORCHESTRATOR_DATABASE_URL are both set: the API is asked.\n"


def test_nobody_is_named_over_http(cli: Cli, by: Switch, stack: Client) -> None:
    by("api")
    said = cli("flow", "disable", "hello", "--as", "ann", code=2)
    assert (
        "'ann' is named as the author, and over HTTP the author of what is done is whoever has the API key" in said.err
    )
    assert stack.flows.get("hello").enabled


@flow
def entered(name: str, password: str) -> str:
    return greet(name)


def test_a_rerun_with_changes_keeps_the_secrets(cli: Cli, by: Switch, stack: Client) -> None:
    """They are not seen over HTTP, and have to be in the new run all the same."""
    register.register(stack.ledger, entered.manifest)
    run = stack.start(entered, name="ann", password="hidden-1")
    run.cancel("enough")
    by("api")
    made = cli("run", "rerun", str(run.id), "-i", "name=bob").out.strip()
    assert stack.call(reads.runs.get, UUID(made)).body == {"name": "bob", "password": "hidden-1"}
    assert cli("run", "show", made, "-o", "json").json["body"] == {"name": "bob", "password": "***"}
    planned = cli("run", "rerun", str(run.id), "-i", "name=eve", "--dry-run", "-o", "json").json
    assert planned["again"] == ["greet"]


def test_the_doctor_asks_the_api(cli: Cli, by: Switch, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    by("api")
    found = {one["check"]: one for one in cli("doctor", "-o", "json", code=None).json}
    assert found["api"]["status"] == "pass"
    assert found["key"]["finding"] == "local, admin"
    assert "no live worker" in found["workers"]["finding"]
    monkeypatch.setenv("ORCHESTRATOR_API_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("orchestrator.client.remote.transport.time.sleep", lambda pause_s: None)
    (found, *_) = cli("doctor", "-o", "json", code=1).json
    assert (found["check"], found["status"]) == ("api", "fail")


def test_a_key_says_who_may(cli: Cli, stack: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without one, or with a wrong one, nobody may."""
    looks = stack.call(keys.create, "looks", Grant(Role.VIEWER), ROOT).text
    monkeypatch.delenv("ORCHESTRATOR_DATABASE_URL")
    with listening_to(settings) as url:
        monkeypatch.setenv("ORCHESTRATOR_API_URL", url)
        for given in (None, "orc_nothing", looks[:-1] + ("0" if looks[-1] != "0" else "1")):
            if given is not None:
                monkeypatch.setenv("ORCHESTRATOR_API_KEY", given)
            said = cli("run", "ls", code=1)
            assert "Fix: set ORCHESTRATOR_API_KEY to a key of that API" in said.err
            assert "[unauthenticated]" in said.err
        monkeypatch.setenv("ORCHESTRATOR_API_KEY", looks)
        assert "hello" in cli("flow", "ls").out
        said = cli("flow", "disable", "hello", code=1)
        assert "This takes the role operator, and key:looks has viewer" in said.err
        assert "[forbidden]" in said.err


class _Strange(http.server.BaseHTTPRequestHandler):
    """Answers everything with the same."""

    status, body, headers_too = 200, b"", {"Content-Type": "application/json"}

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in {**self.headers_too, "Content-Length": str(len(self.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def strange(status: int, body: bytes, headers: dict[str, str]) -> Iterator[str]:
    kind = type("_One", (_Strange,), {"status": status, "body": body, "headers_too": headers})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json", "Retry-After": "7"}
LIMITED = {"code": "rate_limited", "detail": "More than 600 reads came in a minute.", "fix": "ask again after 7 s."}


@pytest.mark.parametrize(
    ("status", "body", "headers", "words"),
    [
        (
            200,
            b"<html>Welcome</html>",
            HTML,
            "answers text/html, and not as the API does. Fix: see that",
        ),
        (
            404,
            b"<html>Nothing</html>",
            HTML,
            "answered 404, and not as the API does. Fix: see that",
        ),
        (301, b"", {"Location": "https://elsewhere"}, "answered 301, and not as the API does"),
        (200, b'{"shape": "new"}', JSON, "cannot read: items: "),
        (429, json.dumps(LIMITED).encode(), PROBLEM, "More than 600 reads came in a minute. Fix: ask again after 7 s."),
        (503, b"gone", {}, "answered 503, and not as the API does"),
    ],
)
def test_what_is_no_answer_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, headers: dict[str, str], words: str
) -> None:
    monkeypatch.setattr("orchestrator.client.remote.transport.time.sleep", lambda pause_s: None)
    with strange(status, body, headers) as url:
        monkeypatch.setenv("ORCHESTRATOR_API_URL", url)
        said = cli("flow", "ls", code=None)
    assert words in said.err
    assert said.code in (1, 2, 3)
    assert len(said.err.splitlines()) == 1


def test_an_api_that_is_away_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.client.remote.transport.time.sleep", lambda pause_s: None)
    monkeypatch.setenv("ORCHESTRATOR_API_URL", "http://127.0.0.1:9")
    said = cli("run", "ls", code=1)
    assert "The API at http://127.0.0.1:9 cannot be reached" in said.err
    for url in ("flows.example.com", "http://", "http://[::1", "http://exa mple", "https://ann:pass-1@flows.example"):
        monkeypatch.setenv("ORCHESTRATOR_API_URL", url)
        said = cli("run", "ls", code=2).err
        assert "is not the URL of an API" in said
        assert "pass-1" not in said
    monkeypatch.setenv("ORCHESTRATOR_API_URL", "https://flows.example")
    for key in ("clé-1", "orc_1 orc_2"):
        monkeypatch.setenv("ORCHESTRATOR_API_KEY", key)
        said = cli("run", "ls", code=2).err
        assert "ORCHESTRATOR_API_KEY" in said
        assert key not in said


def test_fields_of_a_newer_release_are_left_out(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "name": "hello",
        "version": "1",
        "manifest_hash": "a" * 64,
        "enabled": True,
        "updated_at": "2026-01-01T00:00:00Z",
    }
    row |= {"switched_by": None, "switch_reason": None, "open_runs": 0, "ordinal": 1, "colour": "green"}
    with strange(200, json.dumps({"items": [row], "next": None, "mood": "good"}).encode(), JSON) as url:
        monkeypatch.setenv("ORCHESTRATOR_API_URL", url)
        assert "hello" in cli("flow", "ls").out
