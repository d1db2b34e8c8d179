"""`orchestrator flow`: what is registered, what the code has, how it looks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.authoring.discovery import load_flows
from orchestrator.client import Client
from orchestrator.core.facts import Claimant, Success
from orchestrator.engine import payloads
from orchestrator.engine.flows import register
from orchestrator.engine.steps import claim_step, finish_step
from tests.cli.conftest import Cli
from tests.cli.ways import Author
from tests.support import play
from tests.support.payloads import payloads_of
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


def test_disable_refuses_starts_until_enabled(cli: Cli, stack: Client, author: Author) -> None:
    cli("flow", "disable", "hello", "--reason", "moving house", *author.by("ann"))
    said = cli("run", "start", "hello", "-i", "name=x", code=7)
    assert "moving house" in said.err
    assert f"by {author.recorded('ann')}" in said.err
    assert stack.runs() == []
    cli("flow", "enable", "hello")
    cli("run", "start", "hello", "-i", "name=x")


def test_a_graph_is_drawn_from_the_ledger_or_from_the_code(cli: Cli, stack: Client, code: str) -> None:
    assert cli("flow", "graph", "hello").out.splitlines() == ["hello@1", "  greet", "  measure  <- greet"]
    drawn = cli("flow", "graph", "crowd", "--flows", code).out.splitlines()
    assert drawn == [
        "crowd@1",
        "  greet (for each, 3 at a time)",
        "    greet  [queue letters, up to 5 attempts, timeout 30 s]",
        "  size  <- greet",
    ]
    mermaid = cli("flow", "graph", "crowd", "--flows", code, "--mermaid").out
    assert mermaid.startswith("flowchart TD\n")
    assert 'subgraph s0["greet: for each, 3 at a time"]' in mermaid
    assert "s0 --> s1" in mermaid
    assert "s0_0 -> s1 [ltail=cluster_s0];" in cli("flow", "graph", "crowd", "--flows", code, "--dot").out
    assert "give one" in cli("flow", "graph", "crowd", "--flows", code, "--dot", "--mermaid", code=2).err


def test_check_compares_the_code_with_the_ledger(
    cli: Cli, stack: Client, code: str, counted: Callable[[], object]
) -> None:
    stack.start(hello, name="x")
    before = counted()
    rows = {row["flow"]: row for row in cli("flow", "check", "--flows", code, "-o", "json", code=1).json}
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


PATIENT = """\
from orchestrator import Context, each, flow, step

@step(timeout="20m")
def train(n: int) -> int:
    return n

@step(timeout="20m")
def learn(ctx: Context, n: int) -> int:
    if ctx.stopping:
        ctx.hand_over()
    return n

@step
def endless(n: int) -> int:
    return n

@flow
def schooling(ns: list[int]) -> object:
    return [each(train, ns), each(learn, ns)]

@flow
def waiting(n: int) -> int:
    return endless(n)
"""


def test_check_finds_steps_that_outlast_the_grace(cli: Cli) -> None:
    """But not those that hand over. A step without a timeout may be one."""
    Path("patient.py").write_text(PATIENT)
    check = ("flow", "check", "--flows", "patient.py", "--stop-grace")
    said = cli(*check, "10m", code=1)
    assert "break: schooling: step train.train may run for 20m (its timeout)" in said.err
    assert "warn: waiting: step endless has no timeout" in said.err
    assert "learn" not in said.err
    assert "break" not in cli(*check, "21m").err
    assert "hands back what runs after 19m55s" in cli(*check, "20m", code=1).err
    assert "is no time" in cli(*check, "0s", code=2).err
    assert "often" in cli(*check, "often", code=2).err


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


def test_events_of_a_flow_are_listed(cli: Cli, stack: Client, author: Author) -> None:
    cli("flow", "disable", "hello", "--reason", "backlog", *author.by("ann"))
    cli("run", "start", "hello", "-i", "name=you", code=7)
    said = cli("flow", "events", "hello").out
    assert "flow.disabled" in said
    assert f"by={author.recorded('ann')}, reason=backlog" in said
    (refused,) = cli("flow", "events", "hello", "-o", "json").json[1:]
    assert (refused["type"], refused["facts"]["count"]) == ("trigger.rejected_disabled", 1)
    assert "did you mean `hello`?" in cli("flow", "events", "helo", code=3).err


RELEASES = {
    "old": """\
from orchestrator import flow, step

@step
def take(number: str) -> str:
    return number

@step
def finish(number: str) -> str:
    return number

@flow
def shop(number: str) -> str:
    return finish(take(number))
""",
    "new": """\
from orchestrator import flow, step

@step
def take(number: str, place: str) -> str:
    return number

@step
def close(number: str) -> str:
    return number

@flow
def shop(number: str) -> str:
    return close(take(number, "here"))
""",
}
RELEASES["kept"] = (
    RELEASES["new"]
    .replace("place: str", "place: str = 'there'")
    .replace("@flow\n", "@step\ndef finish(number: str) -> str:\n    return number\n\n@flow(retired=[finish])\n")
)


@pytest.fixture
def releases(cli: Cli, stack: Client) -> dict[str, str]:
    """Files with releases of the flow `shop`; a worker of the old one and then one of the new one started."""
    for name, text in RELEASES.items():
        Path(f"{name}_shop.py").write_text(text)
    files = {name: f"{name}_shop.py" for name in RELEASES}
    register.register(stack.ledger, load_flows([files["old"]])["shop"].manifest, "worker one")
    return files


def test_going_back_is_a_command(cli: Cli, stack: Client, author: Author, releases: dict[str, str]) -> None:
    register.register(stack.ledger, load_flows([releases["new"]])["shop"].manifest, "worker two")
    assert (
        cli("flow", "deploy", "shop", "--version", "1", *author.by("ann")).out
        == "shop  version 1 is current, before it was 2\n"
    )
    assert cli("flow", "deploy", "shop", "--flows", releases["old"]).out == "shop  version 1 is current already\n"
    rows = cli("flow", "versions", "shop", "-o", "json").json
    assert [(row["ordinal"], row["current"], row["registered_by"]) for row in rows] == [
        (1, True, "worker one"),
        (2, False, "worker two"),
    ]
    (first, back) = cli("flow", "events", "shop", "-o", "json").json
    assert (first["facts"]["by"], first["facts"]["ordinal"]) == ("worker two", 2)
    assert back["facts"]["by"].startswith(f"{author.recorded('ann')}@")
    assert (
        cli("flow", "deploy", "shop", "--flows", releases["new"]).out == "shop  version 2 is current, before it was 1\n"
    )
    assert "has no version 9" in cli("flow", "deploy", "shop", "--version", "9", code=3).err
    assert "did you mean `shop`?" in cli("flow", "deploy", "shopp", "--version", "1", code=3).err
    assert "did you mean `shop`?" in cli("flow", "deploy", "shp", "--flows", releases["old"], code=2).err
    assert "did you mean `shop`?" in cli("flow", "versions", "shp", code=3).err


def test_lists_show_which_version_it_is(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    run = stack.start("shop", number="1")
    name = f"1:{run.row().manifest_hash[:8]}"
    assert name in cli("run", "ls", "--flow", "shop").out
    assert name in cli("run", "show", str(run.id)).out
    assert name in cli("flow", "ls").out
    assert name in cli("flow", "show", "shop").out


def test_check_says_what_open_runs_would_miss(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    stack.start_many("shop", [{"number": "1"}, {"number": "2"}])
    checked = cli("flow", "check", "--flows", releases["new"], "--strict", "-o", "json", code=1)
    (row,) = checked.json
    assert (row["state"], row["added"], row["removed"]) == ("changed", ["close"], ["finish"])
    assert [(one["step"], one["open_runs"], one["why"]) for one in row["stranded"]] == [
        ("take", 2, "its parameter `place` is not given"),
        ("finish", 2, "the code does not have it"),
    ]
    assert "2 open runs need step finish" in checked.err
    assert "@flow(retired=[finish])" in checked.err
    assert "give a new parameter a default" in checked.err
    assert cli("flow", "check", "--flows", releases["new"], code=1).out
    (row,) = cli("flow", "check", "--flows", releases["kept"], "--strict", "-o", "json").json
    assert (row["state"], row["stranded"], row["older_runs"], row["verdict"]) == ("changed", [], 2, "safe")
    assert [one["what"] for one in row["findings"]] == [
        "step take has another inputs",
        "step close is new",
        "step finish is gone",
    ]


def test_check_names_a_ledger(
    cli: Cli, stack: Client, releases: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its URL, whatever the environment says. One that does not answer tells nothing."""
    stack.start("shop", number="1")
    url = stack.settings.require_database_url()
    monkeypatch.delenv("ORCHESTRATOR_DATABASE_URL")
    assert "1 open run needs" in cli("flow", "check", "--flows", releases["new"], "--against", url, code=1).err
    away = "postgresql://nobody@127.0.0.1:1/nothing"
    assert "cannot be told" in cli("flow", "check", "--flows", releases["new"], "--against", away, code=2).err
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", away)
    assert "cannot be told" in cli("flow", "check", "--flows", releases["new"], code=2).err


@pytest.mark.parametrize("form", ["shown", "manifest", "list", "lines"])
def test_check_compares_the_code_with_a_file(cli: Cli, stack: Client, releases: dict[str, str], form: str) -> None:
    """Which runs are open, a file does not say: what they would miss is told, and that nobody knows."""
    shown = cli("flow", "show", "shop", "-o", "json").json
    written = {"shown": shown, "manifest": shown["manifest"], "list": [shown["manifest"]]}
    other = {"name": "other", "steps": {"a": {"type": "a"}}}
    lines = "\n".join(map(json.dumps, (other, shown)))
    Path("shop.json").write_text(lines if form == "lines" else json.dumps(written[form]))
    said = cli("flow", "check", "--flows", releases["new"], "--against", "shop.json", "-o", "json", code=2)
    (row,) = said.json
    assert (row["state"], row["verdict"], row["older_runs"]) == ("changed", "unknown", None)
    assert "unknown: shop: open runs, if there are any, need step finish" in said.err
    (row,) = cli("flow", "check", "--flows", releases["old"], "--against", "shop.json", "--strict", "-o", "json").json
    assert (row["state"], row["verdict"]) == ("unchanged", "safe")


def test_check_says_what_callers_would_miss(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    """A required parameter more is a break, whether or not there are runs."""
    for parameter, code, said in (
        ("place: str", 1, "break: shop: the input: `place` is new and required"),
        ("place: str = ''", 0, ""),
    ):
        asks = Path(f"asks_shop_{code}.py")
        asks.write_text(RELEASES["old"].replace("def shop(number: str)", f"def shop(number: str, {parameter})"))
        assert said in cli("flow", "check", "--flows", str(asks), "--strict", code=code).err


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "No such file"), ("{", "is not JSON"), ("{}", "The manifest has"), ("[1]", "The manifest has")],
)
def test_check_refuses_a_file_that_holds_no_manifest(
    cli: Cli, stack: Client, releases: dict[str, str], text: str | None, message: str
) -> None:
    if text is not None:
        Path("shop.json").write_text(text)
    assert message in cli("flow", "check", "--flows", releases["new"], "--against", "shop.json", code=2).err


def test_check_knows_the_types_of_parameters(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    stack.start("shop", number="1")
    Path("typed_shop.py").write_text(
        RELEASES["old"]
        .replace("def take(number: str)", "def take(number: int)")
        .replace("shop(number: str)", "shop(number: int)")
    )
    said = cli("flow", "check", "--flows", "typed_shop.py", code=1).err
    assert (
        "1 open run needs step take (type `take`) of an older version, and its parameter `number` takes integer" in said
    )
    assert "the input: `number` takes integer now, and took string" in said


def test_check_knows_what_steps_gave_in_open_runs(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    """A result of another type, and its reader with it: the flow is the same, and what runs hold is not what it takes.
    Runs in which the reader has ended, and those in which the other has not begun, do not count."""
    for _ in range(2):
        play.succeed(stack.ledger, stack.start("shop", number="1").id, "take", "secret-1")
    stack.start("shop", number="1")
    ended = stack.start("shop", number="1")
    play.succeed(stack.ledger, ended.id, "take", "1")
    play.succeed(stack.ledger, ended.id, "finish", "1")
    text = RELEASES["old"].replace("take(number: str) -> str", "take(number: str) -> int")
    Path("other_shop.py").write_text(text.replace("finish(number: str)", "finish(number: int)"))
    said = cli("flow", "check", "--flows", "other_shop.py", code=1).err
    assert (
        "break: shop: 2 open runs need step finish (type `finish`), and its parameter `number` does not take what step "
        "take gave: it is a string. Fix: let the parameter take both"
    ) in said
    assert "secret-1" not in said
    assert "does not take" not in cli("flow", "check", "--flows", releases["old"]).err


def test_check_knows_what_steps_have_yet_to_give(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    """The new function gives it to what the older version has after it; from a file nobody knows for how many runs."""
    waits, done = stack.start("shop", number="1"), stack.start("shop", number="1")
    play.succeed(stack.ledger, done.id, "take", "1")
    Path("shop.json").write_text(json.dumps(cli("flow", "show", "shop", "-o", "json").json))
    text = RELEASES["old"].replace("def take(number: str) -> str", "def take(number: str) -> int")
    text = text.replace("@flow", "@step\ndef word(number: int) -> str:\n    return ''\n\n@flow")
    Path("wordy_shop.py").write_text(text.replace("finish(take(number))", "finish(word(take(number)))"))
    what = (
        "step finish (type `finish`) of an older version takes as `number` what step take gives, and does not take all"
    )
    said = cli("flow", "check", "--flows", "wordy_shop.py", code=1).err
    assert f"break: shop: {what} that it may be now: 1 open run has yet to run that" in said
    said = cli("flow", "check", "--flows", "wordy_shop.py", "--against", "shop.json", code=2).err
    assert f"unknown: shop: {what} that it may be now: that matters if there are open runs" in said
    play.succeed(stack.ledger, waits.id, "take", "1")
    assert what not in cli("flow", "check", "--flows", "wordy_shop.py").err


def test_check_reads_long_results_where_they_are(
    cli: Cli, stack: Client, releases: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or says how many it did not look at."""
    url = f"file://{tmp_path / 'store'}"
    (tmp_path / "store").mkdir()
    stack.ledger.payloads = payloads_of(url)
    payloads.begin(stack.ledger)
    run = stack.start("shop", number="1")
    lease = claim_step.claim(stack.ledger, run.id, "take", 1, Claimant("test/1/a", play.LEASE))
    assert lease is not None
    assert payloads.may_write(stack.ledger, lease, play.LEASE)
    text = json.dumps("x" * 5000)
    payload = stack.ledger.payloads.write(payloads.reference_of(lease), text.encode())
    finish_step.finish(stack.ledger, lease, Success(text, payload=payload))
    again = RELEASES["old"].replace("take(number: str) -> str", "take(number: str) -> int")
    Path("other_shop.py").write_text(again.replace("finish(number: str)", "finish(number: int)"))
    said = cli("flow", "check", "--flows", "other_shop.py", "--strict", code=1).err
    assert "warn: shop: 1 result of step take in open runs was not looked at, which step finish takes as" in said
    assert "Fix: set ORCHESTRATOR_PAYLOAD_STORE" in said
    monkeypatch.setenv("ORCHESTRATOR_PAYLOAD_STORE", url)
    said = cli("flow", "check", "--flows", "other_shop.py", code=1).err
    assert "does not take what step take gave: it is a string" in said
    assert "not looked at" not in said


CALLERS = """

@step
def note(number: str) -> str:
    return number

@flow
def yard(number: str) -> str:
    return note(shop(number))
"""


def test_check_knows_who_reads_the_result_of_a_flow(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    """By flows of the code that call it; from a file, too."""
    Path("shop.json").write_text(json.dumps(cli("flow", "show", "shop", "-o", "json").json))
    Path("yards.py").write_text(RELEASES["old"] + CALLERS)
    changed = RELEASES["old"].replace("def shop(number: str) -> str", "def shop(number: str) -> str | None")
    Path("null_yards.py").write_text(changed + CALLERS)
    for against in ([], ["--against", "shop.json"]):
        assert "break" not in cli("flow", "check", "--flows", "yards.py", *against).err
        said = cli("flow", "check", "--flows", "null_yards.py", *against, code=1).err
        assert "break: shop: the result: step note of flow yard takes it as `number`, and does not take all" in said


def test_check_knows_a_renamed_step(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    stack.start("shop", number="1")
    Path("renamed_shop.py").write_text(RELEASES["old"].replace("finish", "close"))
    said = cli("flow", "check", "--flows", "renamed_shop.py", "--strict", code=1).err
    assert 'if it was renamed to close, write `@step(key="finish")` on the function' in said


def test_check_says_that_the_code_was_superseded(cli: Cli, stack: Client, releases: dict[str, str]) -> None:
    register.register(stack.ledger, load_flows([releases["new"]])["shop"].manifest)
    checked = cli("flow", "check", "--flows", releases["old"], "--strict", "-o", "json", code=1)
    assert checked.json[0]["state"] == "superseded"
    assert "`orchestrator flow deploy shop`" in checked.err


def test_delete_asks_and_names_what_needs_the_flow(cli: Cli, stack: Client, author: Author) -> None:
    run = stack.start(hello, name="you")
    assert "1 run of it is open" in cli("flow", "delete", "hello", "--yes", code=7).err
    run.cancel("not needed")
    assert cli("flow", "delete", "hello", "--yes", *author.by("ann")).out == "hello  deleted\n"
    assert [row["name"] for row in cli("flow", "ls", "-o", "json").json] == ["fan"]
    assert cli("run", "show", str(run.id), "-o", "json").json["status"] == "cancelled"
    assert "did you mean" not in cli("flow", "delete", "hello", "--yes", code=3).err
    assert "Delete flow" not in cli("flow", "delete", "hello", code=3).err


def test_a_call_of_a_flow_that_nobody_has_is_a_warning(cli: Cli, stack: Client) -> None:
    Path("billing.py").write_text(
        "from orchestrator import Flow, Manifest\n"
        'steps = {"known": {"flow": "hello"}, "own": {"flow": "two"}, "lost": {"flow": "helo"}}\n'
        'one = Flow.from_manifest(Manifest(name="one", steps=steps), steps=[])\n'
        'two = Flow.from_manifest(Manifest(name="two", steps={"known": {"flow": "hello"}}), steps=[])\n'
    )
    said = cli("flow", "check", "--flows", "billing.py").err
    assert "warn: one: step lost calls flow helo, which is not there" in said
    assert said.count("which is not there") == 1
