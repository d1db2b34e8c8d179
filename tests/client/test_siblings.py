"""Whoever waits looks by itself first: how often, and at what. The same for both clients."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from orchestrator.client import AsyncClient, Client
from orchestrator.client.ahandles import AsyncRunHandle
from orchestrator.client.run_handle import RunHandle
from orchestrator.core.states import RunStatus
from orchestrator.errors import RunNotFound
from orchestrator.ledger import reads
from orchestrator.ledger.tx import Ledger
from tests.support import play
from tests.support.small_flows import hello

SUCCEEDED = RunStatus.SUCCEEDED
Waiter = Callable[[Client, Sequence[RunHandle[Any]]], list[RunStatus]]


def plainly(client: Client, runs: Sequence[RunHandle[Any]]) -> list[RunStatus]:
    return [run.wait(60) for run in runs]


def awaited(client: Client, runs: Sequence[RunHandle[Any]]) -> list[RunStatus]:
    """By an asynchronous client around this one."""
    wrapped = AsyncClient.__new__(AsyncClient)
    wrapped._wrap(client, 4)

    async def all_of_them() -> list[RunStatus]:
        return [await AsyncRunHandle(wrapped, run).wait(60) for run in runs]

    try:
        return asyncio.run(all_of_them())
    finally:
        wrapped._threads.shutdown()


class Looks(list[list[UUID]]):
    """Which runs each statement asked for; after each, `then` is called."""

    then: Callable[[], object] = staticmethod(lambda: None)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    found = Looks()
    statuses = reads.runs.statuses

    def look(ledger: Ledger, run_ids: Sequence[UUID]) -> dict[UUID, RunStatus]:
        answer = statuses(ledger, run_ids)
        found.append(list(run_ids))
        found.then()
        return answer

    monkeypatch.setattr(reads.runs, "statuses", look)
    return found


def old(runs: Sequence[RunHandle[Any]]) -> Sequence[RunHandle[Any]]:
    """As if they had been started a while ago: then the first look is the handle's own."""
    for run in runs:
        run.known_since = time.monotonic() - 1
    return runs


@pytest.mark.parametrize("waits", [plainly, awaited])
def test_an_end_between_two_looks_costs_the_watcher_nothing(client: Client, looks: Looks, waits: Waiter) -> None:
    (run,) = old([client.start(hello, name="you")])
    looks.then = lambda: play.finish_hello(client.ledger, run.id) if len(looks) == 1 else None
    assert waits(client, [run]) == [SUCCEEDED]
    assert looks == [[run.id], [run.id]]
    assert client.watcher._thread is None


@pytest.mark.parametrize("waits", [plainly, awaited])
def test_runs_started_in_one_call_are_looked_at_together(client: Client, looks: Looks, waits: Waiter) -> None:
    runs = old(client.start_many(hello, [{"name": "you"}] * 20))
    for run in runs:
        play.finish_hello(client.ledger, run.id)
    assert waits(client, runs) == [SUCCEEDED] * 20
    ids = [run.id for run in runs]
    assert looks == [ids[:16], ids[16:]]


def test_a_sibling_that_failed_is_asked_again(client: Client, looks: Looks) -> None:
    """It may have been retried in between; a success is for good."""
    first, second = old(client.start_many(hello, [{"name": "you"}] * 2))
    play.finish_hello(client.ledger, first.id)
    play.fail(client.ledger, second.id, "greet")
    assert second.wait(60) is RunStatus.FAILED
    assert first.wait(60) is SUCCEEDED
    second.retry()
    play.succeed(client.ledger, second.id, "greet", "hello you", 2)
    play.succeed(client.ledger, second.id, "measure", 9)
    assert second.wait(60) is SUCCEEDED
    assert first.wait(60) is SUCCEEDED


def test_a_sibling_that_was_removed_is_missed(client: Client) -> None:
    first, second = old(client.start_many(hello, [{"name": "you"}] * 2))
    second.cancel("not wanted")
    second.delete()
    first.cancel("neither")
    assert first.wait(60) is RunStatus.CANCELLED
    with pytest.raises(RunNotFound):
        second.wait(60)
