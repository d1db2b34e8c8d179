"""Runs leave the ledger as JSON lines, with all that belongs to them and without secrets."""

import json
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from orchestrator import flow, step
from orchestrator.client import Client, records
from orchestrator.engine.flows import register
from tests.cli.conftest import Cli
from tests.support import play


@step
def sign_in(user: str, password: str) -> dict[str, str]:
    return {"user": user, "password": password}


@flow
def signing(user: str, password: str) -> dict[str, str]:
    return sign_in(user, password)


def exported(cli: Cli, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cli("run", "export", *arguments).out.splitlines()]


def test_a_run_is_exported_with_all_that_belongs_to_it(cli: Cli, stack: Client) -> None:
    run = stack.start("hello", name="ann", tags=("t",))
    other = stack.start("hello", name="bob")
    play.finish_hello(stack.ledger, run.id)
    found = exported(cli, "tag:t")
    assert {one["run"] for one in found} == {str(run.id)}
    events = len(run.events())
    counts = {"run": 1, "step": 2, "attempt": 2, "output": 2, "event": events}
    assert Counter(one["record"] for one in found) == counts
    by_kind = {kind: [one for one in found if one["record"] == kind] for kind in counts}
    assert by_kind["run"][0]["body"] == {"name": "ann", "times": 1}
    assert [one["key"] for one in by_kind["step"]] == ["greet", "measure"]
    outputs = {one["step"]: one["output"] for one in by_kind["output"]}
    assert outputs == {key: run.output(key) for key in ("greet", "measure")}
    ended = [(one["step"], one["attempt"], one["status"]) for one in by_kind["attempt"]]
    assert ended == [("greet", 1, "succeeded"), ("measure", 1, "succeeded")]
    assert [one["run"] for one in exported(cli) if one["record"] == "run"] == [str(other.id), str(run.id)]
    assert exported(cli, "--where", "-flow:hello") == []


def test_no_secret_is_exported(cli: Cli, stack: Client) -> None:
    register.register(stack.ledger, signing.manifest)
    run = stack.start("signing", user="ann", password="hunter2")
    play.succeed(stack.ledger, run.id, "sign_in", {"user": "ann", "password": "hunter2"})
    said = cli("run", "export", "flow:signing")
    assert "ann" in said.out
    assert "hunter2" not in said.out
    assert said.err == "1 run exported.\n"


def test_every_kind_comes_in_pages(stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a page is held, however much there is."""
    monkeypatch.setattr(records, "_LARGE", 1)
    monkeypatch.setattr(records, "_SMALL", 1)
    runs = [stack.start("hello", name=f"n{n}") for n in range(3)]
    for run in runs:
        play.finish_hello(stack.ledger, run.id)
    counts = Counter(one["record"] for one in stack.all_records(flow="hello"))
    assert counts == {"run": 3, "step": 6, "attempt": 6, "output": 6, "event": sum(len(run.events()) for run in runs)}
    asked = 0
    real = stack.call

    def counting(*given: Any, **more: Any) -> Any:
        nonlocal asked
        asked += 1
        return real(*given, **more)

    monkeypatch.setattr(stack, "call", counting)
    assert len(list(islice(stack.all_records(flow="hello"), 1))) == 1
    assert asked == 2, "the rest is read when it is asked for"


def test_a_run_that_is_removed_meanwhile_is_told(stack: Client) -> None:
    run = stack.start("hello", name="ann")
    run.cancel()
    found = stack.all_records(flow="hello")
    assert next(found)["record"] == "run"
    run.delete()
    assert [one["code"] for one in found if one["record"] == "error"] == ["run_not_found"]
