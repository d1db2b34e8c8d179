"""`orchestrator flow`: what is registered, what the code has, how it looks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.client import Client
from orchestrator.engine.flows import register
from tests.cli.conftest import Cli
from tests.support.small_flows import hello

SOURCE = """\
from orchestrator import each, flow, step

@step(retries=4, timeout="30s", queue="letters")
def greet(name: str) -> str:
    return name

@step
def size(words: list[str]) -> int:
    return len(words)

@flow(version="2")
def hello(name: str) -> str:
    return greet(name)

@flow
def crowd(names: list[str]) -> int:
    return size(each(greet, names, concurrency=3))
"""


@pytest.fixture
def code(cli: Cli) -> str:
    """A file with two flows, in the current folder."""
    Path("letters.py").write_text(SOURCE)
    return "letters.py"


def test_ls_and_show(cli: Cli, stack: Client) -> None:
    assert [row["name"] for row in cli("flow", "ls", "-o", "json").json] == ["fan", "hello"]
    assert cli("flow", "list").out.splitlines()[0].split()[:2] == ["flow", "version"]
    said = cli("flow", "show", "hello").out
    assert "Greets somebody." in said
    assert "name       string   yes" in said
    assert "times      integer  no        1" in said
    assert "measure  <- greet" in said
    assert cli("flow", "get", "hello", "-o", "json").json["manifest"]["name"] == "hello"


def test_an_unknown_flow_is_told_with_the_nearest_name(cli: Cli, stack: Client, counted: Callable[[], object]) -> None:
    before = counted()
    for verb in (["show"], ["graph"], ["enable"], ["disable", "--reason", "x"]):
        assert "did you mean `hello`?" in cli("flow", verb[0], "helo", *verb[1:], code=3).err
    assert counted() == before


def test_disable_refuses_starts_until_enabled(cli: Cli, stack: Client) -> None:
    cli("flow", "disable", "hello", "--reason", "moving house", "--as", "ann")
    said = cli("run", "start", "hello", "-i", "name=x", code=7)
    assert "moving house" in said.err
    assert "by ann" in said.err
    assert stack.runs() == []
    cli("flow", "enable", "hello")
    cli("run", "start", "hello", "-i", "name=x")


def test_a_graph_is_drawn_from_the_ledger_or_from_the_code(cli: Cli, stack: Client, code: str) -> None:
    assert cli("flow", "graph", "hello").out.splitlines() == ["hello@1", "  greet", "  measure  <- greet"]
    drawn = cli("flow", "graph", "crowd", "--flows", code).out.splitlines()
    assert drawn == [
        "crowd@1",
        "  greet (for each, 3 at a time)",
        "    greet  [queue letters, up to 5 attempts, timeout 30.0 s]",
        "  size  <- greet",
    ]
    mermaid = cli("flow", "graph", "crowd", "--flows", code, "--mermaid").out
    assert mermaid.startswith("flowchart TD\n")
    assert 'subgraph s0["greet: for each"]' in mermaid
    assert "s0 --> s1" in mermaid


def test_check_compares_the_code_with_the_ledger(
    cli: Cli, stack: Client, code: str, counted: Callable[[], object]
) -> None:
    stack.start(hello, name="x")
    before = counted()
    rows = {row["flow"]: row for row in cli("flow", "check", "--flows", code, "-o", "json").json}
    assert (rows["crowd"]["state"], rows["crowd"]["older_runs"]) == ("new", 0)
    assert (rows["hello"]["state"], rows["hello"]["older_runs"]) == ("changed", 1)
    register.register(stack.ledger, hello.manifest)
    assert counted() == before
    rows = {row["flow"]: row for row in cli("flow", "check", "--flows", "tests.support.small_flows", "-o", "json").json}
    assert rows["hello"]["state"] == "unchanged"


def test_check_works_without_a_ledger(cli: Cli, code: str) -> None:
    said = cli("flow", "check", "--flows", code, "-o", "json")
    assert {row["state"] for row in said.json} == {"unknown"}
    assert "was not asked" in said.err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", "broken.py:1"),
        ("import nothing_of_that_name", "broken.py:1"),
        ("x = 1", "holds no flow"),
        (
            "from orchestrator import flow, step\n@step\ndef a(x: int) -> int:\n    return x\n"
            "@flow\ndef f(x: int) -> int:\n    if a(x):\n        return a(x)\n    return a(x)\n",
            "broken.py:7",
        ),
    ],
)
def test_check_names_the_place_of_a_problem(cli: Cli, source: str, message: str) -> None:
    Path("broken.py").write_text(source)
    assert message in cli("flow", "check", "--flows", "broken.py", code=2).err


def test_check_without_flows_is_a_usage_error(cli: Cli) -> None:
    assert "--flows" in cli("flow", "check", code=2).err
    assert "no_such_module" in cli("flow", "check", "--flows", "no_such_module", code=2).err


def test_events_of_a_flow_are_listed(cli: Cli, stack: Client) -> None:
    cli("flow", "disable", "hello", "--reason", "backlog", "--as", "ann")
    cli("run", "start", "hello", "-i", "name=you", code=7)
    said = cli("flow", "events", "hello").out
    assert "flow.disabled" in said
    assert "by=ann, reason=backlog" in said
    (refused,) = cli("flow", "events", "hello", "-o", "json").json[1:]
    assert (refused["type"], refused["facts"]["count"]) == ("trigger.rejected_disabled", 1)
    assert "did you mean `hello`?" in cli("flow", "events", "helo", code=3).err
