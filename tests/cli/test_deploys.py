"""`orchestrator drain`, `resume` and `deploy status`: what a deploy stops, waits for, and lets go on."""

import json

import pytest

from orchestrator.cli import drain
from orchestrator.client import Client
from orchestrator.core.facts import WorkerInfo
from orchestrator.engine import workers
from orchestrator.engine.flows import register
from tests.cli.conftest import Cli
from tests.support.scheduled_flows import report, twice
from tests.support.small_flows import hello


@pytest.fixture
def flows(stack: Client) -> Client:
    """Two flows with schedules, beside two without."""
    for one in (report, twice):
        register.register(stack.ledger, one.manifest)
    return stack


def stopped(cli: Cli) -> set[str]:
    rows = cli("schedule", "ls", "-o", "json").json
    return {f"{row['flow']}/{row['trigger_key']}" for row in rows if row["state"] != "on"}


def worker(client: Client, name: str, label: str | None, **versions: str) -> None:
    handlers = tuple(f"{flow}.{task}" for flow in versions for task in ("greet", "measure"))
    facts = WorkerInfo(name, "host", 1, "prefork", 2, 8, ("default",), handlers, "1", versions, label=label)
    workers.hello(client.ledger, facts)


def test_a_drain_pauses_what_fires_and_its_resume_undoes_just_that(cli: Cli, flows: Client) -> None:
    cli("schedule", "pause", "report")
    said = cli("drain")
    number = said.out.strip()
    assert "Paused 2 schedules" in said.err
    assert f"orchestrator resume {number}" in said.err
    assert stopped(cli) == {"report/nightly", "twice/cron", "twice/every"}
    again = cli("drain", "--flow", "twice").out.strip()  # nothing is left to pause
    assert "none did" not in cli("resume", again, code=3).err
    cli("resume", number)
    assert stopped(cli) == {"report/nightly"}
    assert "none did" in cli("resume", number, code=3).err
    assert "No drain stopped anything" in cli("resume", code=3).err


def test_a_drain_of_one_flow_leaves_the_others_alone(cli: Cli, flows: Client) -> None:
    flows.start("hello", name="you")
    cli("drain", "--flow", "twice")
    assert stopped(cli) == {"twice/cron", "twice/every"}
    second = cli("drain", "--flow", "report").out.strip()
    assert "Several drains" in cli("resume", code=7).err
    cli("resume", second)
    assert stopped(cli) == {"twice/cron", "twice/every"}
    cli("resume")
    assert stopped(cli) == set()
    assert "did you mean" in cli("drain", "--flow", "twise", code=3).err


def test_it_says_what_is_left_and_why(cli: Cli, flows: Client) -> None:
    run = flows.start("hello", name="you")
    said = cli("drain", "--timeout", "1s", code=6)
    assert "1 run still open" in said.err
    assert str(run.id)[-8:] in said.err
    assert "no worker is live" in said.err
    assert f"orchestrator resume {said.out.strip()}" in said.err


def test_it_ends_when_the_last_run_has_ended(cli: Cli, flows: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    run = flows.start("hello", name="you")
    monkeypatch.setattr(drain, "sleep", lambda seconds: run.cancel(by="test"))
    said = cli("drain", "--timeout", "1h")
    assert "1 run open" in said.err
    assert "No run is open" in said.err


def test_starts_are_refused_if_that_is_wanted(cli: Cli, flows: Client) -> None:
    number = cli("drain", "--refuse-starts").out.strip()
    assert "disabled" in cli("run", "start", "hello", "-i", "name=you", code=7).err
    cli("resume", number)
    cli("run", "start", "hello", "-i", "name=you")


def test_releases_are_listed_with_what_needs_them(cli: Cli, stack: Client) -> None:
    assert "No worker is live" in cli("deploy", "status").err
    run = stack.start("hello", name="you")
    worker(stack, "host/1/abc", "v1", hello=hello.manifest.hash)
    worker(stack, "host/2/abc", None, fan=hello.manifest.hash)
    table = cli("deploy", "status").out
    assert "v1" in table
    assert "1 open run, new runs" in table
    found = {row["name"]: row for row in cli("deploy", "status", "-o", "json").json["releases"]}
    assert found["v1"]["state"] == "current"
    (need,) = found["v1"]["needs"]
    assert (need["flow"], need["runs"], need["current"]) == ("hello", 1, True)
    assert len(json.loads(cli("deploy", "status", "-o", "jsonl").out)["releases"]) == 2
    said = cli("drain", "--older-than-release", "v1")
    assert (said.out, "No such run" in said.err) == ("", True)
    assert "Fix: start it first" in cli("drain", "--older-than-release", "v9", code=2).err
    assert "stops nothing" in cli("drain", "--older-than-release", "v1", "--refuse-starts", code=2).err
    run.cancel()


def test_an_old_release_is_waited_for(cli: Cli, stack: Client) -> None:
    stack.start("hello", name="you")
    worker(stack, "host/1/abc", "v1", hello=hello.manifest.hash)
    worker(stack, "host/2/abc", "v2", fan="other")
    newer = cli("drain", "--older-than-release", "v2", "--timeout", "1s", code=6)
    assert "1 run of hello 1:" in newer.err
    workers.gone(stack.ledger, "host/1/abc")
    assert "No live worker has the code of hello" in cli("deploy", "status").err


def test_a_smoke_test_whose_run_does_not_end_fails_and_is_recorded(cli: Cli, stack: Client) -> None:
    assert "No live worker is there" in cli("smoke", code=2).err
    worker(stack, "host/1/abc", None, hello=hello.manifest.hash)  # a row without a process
    said = cli("smoke", "--timeout", "1s", code=1)
    assert "The run through default has not ended" in said.err
    (kept,) = cli("evidence", "ls", "-o", "json").json
    assert (kept["kind"], kept["ok"], kept["facts"]["queues"]["default"]["run"]) == ("smoke", False, "open")
    assert {row["status"] for row in cli("run", "ls", "-o", "json").json} == {"cancelled"}


def test_what_was_tried_elsewhere_is_recorded(cli: Cli, stack: Client) -> None:
    assert "orchestrator smoke" in cli("evidence", "ls").err
    cli("evidence", "record", "failover", "--note", "the primary was stopped", "--at", "2h")
    said = cli("evidence", "record", "drill", "--failed").err
    assert "Recorded: drill" in said
    assert "failed" in said
    cli("evidence", "record", "drill")
    rows = {row["kind"]: row for row in cli("evidence", "ls", "-o", "json").json}
    assert (rows["failover"]["ok"], rows["failover"]["facts"]) == (True, {"note": "the primary was stopped"})
    assert rows["drill"]["ok"]
    assert [row["ok"] for row in cli("evidence", "ls", "drill", "-o", "json").json] == [True, False]
    assert "'party'" in cli("evidence", "record", "party", code=2).err
