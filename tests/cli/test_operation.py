"""Many runs at once, from the command line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread

import pytest

from orchestrator.client import Client, RunHandle
from orchestrator.core.operations import Action
from orchestrator.engine.operations import work
from orchestrator.errors import RunNotFound
from orchestrator.ledger.tx import Ledger
from orchestrator.settings import Settings
from tests.cli.conftest import Cli
from tests.cli.ways import Author
from tests.support.small_flows import hello

GRACE = timedelta(seconds=1)


@contextmanager
def kept(settings: Settings) -> Iterator[None]:
    """What the keeper of a worker does with operations."""
    ledger, over = Ledger.connect(settings.require_database_url(), name="keeper"), Event()

    def turns() -> None:
        while not over.wait(0.02):
            work.page(ledger, GRACE)
        ledger.release_thread()

    thread = Thread(target=turns)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ledger.close()


@pytest.fixture
def keeper(settings: Settings, stack: Client) -> Iterator[None]:
    with kept(settings):
        yield


def begun(stack: Client, *names: str) -> "list[RunHandle[object]]":
    return [stack.start("hello", name=name, tags=("t",)) for name in names]


def test_cancel_where_does_it_to_all_that_match_and_waits(
    cli: Cli, stack: Client, author: Author, keeper: None
) -> None:
    made = begun(stack, "ann", "bob", "eve")
    made[2].cancel()
    said = cli("run", "cancel", "--where", "flow:hello tag:t", "--reason", "a bad deploy", *author.by("op"))
    assert "completed" in said.out
    assert "2 of 2 runs: cancel is done." in said.err
    assert "1 matches, and is left out: ended already." in said.err
    assert {run.status() for run in made} == {"cancelled"}
    assert made[0].row().cancel_reason == "a bad deploy"
    (row,) = cli("operation", "ls", "-o", "json").json
    assert (row["by"], row["reason"], row["wanted"]) == (
        author.recorded("op"),
        "a bad deploy",
        {"q": "flow:hello tag:t"},
    )
    assert "flow:hello tag:t" in cli("operation", "show", row["id"]).out
    outcomes = cli("operation", "outcomes", row["id"][-8:], "-o", "jsonl").out.splitlines()
    assert {json.loads(line)["run_id"] for line in outcomes} == {str(run.id) for run in made[:2]}


def test_a_dry_run_changes_nothing(cli: Cli, stack: Client) -> None:
    (run,) = begun(stack, "ann")
    said = cli("run", "retry", "--where", "flow:hello", "--dry-run")
    assert said.out == "retry 0 runs\n"
    assert "1 matches, and is left out: going on, and nothing of it failed." in said.err
    found = cli("run", "cancel", "--where", "flow:hello", "--dry-run", "-o", "json").json
    assert (found["affected"], found["left_out"]) == (1, {})
    assert found["token"]
    assert run.status() == "pending"
    assert "no operation" in cli("operation", "ls").err


def test_retry_and_delete_where(cli: Cli, stack: Client, keeper: None) -> None:
    made = begun(stack, "ann", "bob")
    cli("run", "cancel", *(str(run.id) for run in made))
    cli("run", "retry", "--where", "status:cancelled", "--reason", "a mistake")
    assert {run.status() for run in made} == {"running"}
    cli("run", "cancel", str(made[0].id))
    said = cli("run", "delete", "--where", "tag:t", "--reason", "of a test", "--yes", "-o", "json")
    assert (said.json["counts"], said.json["left_out"]) == ({"done": 1}, {"open": 1})
    with pytest.raises(RunNotFound):
        stack.run(made[0].id)
    (row,) = cli("audit", "ls", "--action", "run.delete", "-o", "json").json
    assert (row["target"], row["reason"]) == (f"run/{made[0].id}", "of a test")


def test_delete_where_asks_first(cli: Cli, stack: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = begun(stack, "ann")
    run.cancel()
    asked: list[str] = []

    def refuse(text: str, **options: object) -> None:
        import typer

        asked.append(text)
        raise typer.Abort

    monkeypatch.setattr("typer.confirm", refuse)
    said = cli("run", "delete", "--where", "tag:t", "--reason", "x", code=1)
    assert asked == ["delete 1 run for good?"]
    assert "nothing was done" in said.err
    assert run.status() == "cancelled"


def test_an_operation_is_paused_resumed_and_cancelled(
    cli: Cli, stack: Client, author: Author, settings: Settings
) -> None:
    begun(stack, "ann", "bob")
    id = cli("run", "cancel", "--where", "tag:t", "--reason", "x", "--detach").out.split()[0]
    assert "paused" in cli("operation", "pause", id, *author.by("ann")).out
    with kept(settings):
        assert "running" in cli("operation", "resume", id).out
        assert "2 of 2 runs" in cli("operation", "watch", id).err
    assert "completed" in cli("operation", "cancel", id, code=7).err
    actions = [row["action"] for row in cli("audit", "ls", "-o", "json").json]
    assert actions == ["operation.resume", "operation.pause", "operation.create"]
    begun(stack, "eve")
    other = cli("run", "cancel", "--where", "tag:t status:pending", "--reason", "x", "--detach", "-o", "json").json[
        "id"
    ]
    assert "cancelled" in cli("operation", "cancel", other, *author.by("eve")).out
    assert (
        f"{author.recorded('eve')} cancelled it: 1 runs were left as they are."
        in cli("operation", "watch", other, code=5).err
    )
    assert "eve" not in cli("operation", "ls", "--open").out


def test_what_failed_each_time_gives_the_exit_code(
    cli: Cli, stack: Client, keeper: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> work.Acted:
        raise ZeroDivisionError("no way")

    monkeypatch.setattr(work, "ACTS", dict.fromkeys(Action, broken))
    monkeypatch.setattr(work, "TRIES", 1)
    begun(stack, "ann")
    said = cli("run", "cancel", "--where", "tag:t", "--reason", "x", code=1)
    assert "1 failed each time. See: orchestrator operation outcomes" in said.err
    id = said.out.split()[0]
    assert "ZeroDivisionError: no way" in cli("operation", "outcomes", id, "--outcome", "failed").out


def test_without_a_worker_it_says_so(
    cli: Cli, stack: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.bulk._TOLD_S", 0.05)
    begun(stack, "ann")
    id = cli("run", "cancel", "--where", "tag:t", "--reason", "x", "--detach").out.split()[0]
    from orchestrator.cli import bulk

    told = Event()
    real = bulk.note
    monkeypatch.setattr(
        "orchestrator.cli.bulk.note", lambda text: (real(text), "No worker lives" in text and told.set())
    )

    def begin() -> None:
        told.wait(60)
        ledger = Ledger.connect(settings.require_database_url(), name="keeper")
        while not stack.operation(id).row().is_over:
            work.page(ledger, GRACE)
        ledger.close()

    thread = Thread(target=begin)
    thread.start()
    said = cli("operation", "watch", id)
    thread.join()
    assert "cancel: 0 of 1" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cancel"], "--where"),
        (["cancel", "abcd", "--where", "tag:t"], "Which runs?"),
        (["cancel", "abcd", "--dry-run"], "--dry-run goes with --where"),
        (["cancel", "--where", "tag:t"], "--reason"),
        (["retry", "abcd", "--reason", "x"], "--reason goes with --where"),
        (["retry", "--where", "tag:t", "--reason", "x", "--wait"], "--wait"),
        (["delete", "--where", "", "--reason", "x", "--yes"], "every run"),
        (["cancel", "--where", "flow:hallo", "--reason", "x"], "hello"),
        (["cancel", "--where", "statos:failed", "--reason", "x"], "status"),
    ],
    ids=" ".join,
)
def test_what_does_not_fit_is_told(cli: Cli, stack: Client, arguments: list[str], words: str) -> None:
    said = cli("run", *arguments, code=None)
    assert said.code in (2, 3)
    assert words in said.err


def test_the_asynchronous_client_follows_one_too(settings: Settings, stack: Client, keeper: None) -> None:
    import asyncio

    from orchestrator import AsyncClient

    begun(stack, "ann", "bob")

    async def main() -> list[object]:
        async with AsyncClient(settings) as client:
            plan = await client.operate_plan("cancel", flow=hello, status=["pending", "running"])
            handle = await client.operate(
                "cancel", flow=hello, status=["pending", "running"], reason="x", token=plan.token
            )
            row = await handle.wait("1m")
            assert (row.counts, row.moved, [one.id for one in await client.operations()]) == (
                {"done": 2},
                False,
                [row.id],
            )
            assert (await (await client.operation(str(row.id)[-8:])).row()) == row
            return [one.outcome async for one in handle.all_outcomes()]

    assert asyncio.run(main()) == ["done", "done"]
