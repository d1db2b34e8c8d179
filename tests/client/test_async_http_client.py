"""`AsyncHttpClient`: the client over HTTP, awaited, through a server that listens."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import AsyncHttpClient
from orchestrator.client import Client
from orchestrator.client.watcher import Watcher
from orchestrator.engine.flows import register
from orchestrator.errors import RunFailed, SettingsInvalid, UsageError, WaitTimeout
from orchestrator.settings import Settings
from tests.support import play
from tests.support.eventually import eventually
from tests.support.listening import listening
from tests.support.small_flows import Greeting, hello


@pytest.fixture
def url(settings: Settings, client: Client) -> Any:
    register.register(client.ledger, hello.manifest)
    with listening(settings.model_copy(update={"auth": "open"})) as made:
        yield made


async def soon(holds: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, holds)


def test_runs_are_started_followed_and_operated(url: str, client: Client) -> None:
    async def use() -> None:
        async with AsyncHttpClient(url) as far:
            run = await far.start(hello, name="you", idempotency_key="k")
            again, other = await far.start_many(hello, [{"name": "you"}, {"name": "me"}], ["k", "l"])
            assert (run.created, again.created, other.created) == (True, False, True)
            assert again.id == run.id
            with pytest.raises(WaitTimeout):
                await run.wait(0.2)
            waiting = asyncio.create_task(run.result())
            await asyncio.to_thread(play.finish_hello, client.ledger, run.id)
            assert await waiting == Greeting("hello you", 9)
            assert await run.end() == "succeeded"
            assert await run.row() == client.run(run.id).row()
            assert [step.key async for step in run.all_steps()] == ["greet", "measure"]
            assert [record async for record in far.all_records()] == list(client.all_records())
            assert await far.count_runs(flow=hello) == 2
            made = await far.operate("cancel", [other.id], reason="enough")
            assert [one.run_id async for one in made.all_outcomes()] == [other.id]
            assert (await made.cancel()).state == "cancelled"
            await asyncio.to_thread(play.fail, client.ledger, other.id, "greet")
            with pytest.raises(RunFailed):
                await (await far.run(other.id)).result()

    asyncio.run(use())


def test_many_wait_at_once_with_few_threads(url: str, client: Client) -> None:
    """More than there are threads, here and in the API."""

    async def use() -> list[Greeting]:
        async with AsyncHttpClient(url) as far:
            runs = await far.start_many(hello, [{"name": str(n)} for n in range(40)])
            waiting = [asyncio.create_task(run.result("1m")) for run in runs]
            for run in reversed(runs):
                await asyncio.to_thread(play.finish_hello, client.ledger, run.id)
            return list(await asyncio.gather(*waiting))

    assert len(asyncio.run(use())) == 40


def test_a_wait_that_is_cancelled_leaves_nothing_behind(
    url: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request here, no wait in the API, and no task of the program's own."""
    ends: list[Any] = []
    watch = Watcher.ended

    def watched(self: Watcher, *given: Any, **more: Any) -> Any:
        found = watch(self, *given, **more)
        ends.extend(found)
        return found

    monkeypatch.setattr(Watcher, "ended", watched)

    async def use() -> None:
        async with AsyncHttpClient(url) as far:
            run = await far.start(hello, name="you")
            waiting = asyncio.create_task(run.result())
            await soon(lambda: len(ends) == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert far.sync.waits._running is not None
            loop, http, _ = far.sync.waits._running
            await soon(lambda: not asyncio.all_tasks(loop))
            assert not http._transport._pool.connections
            await soon(lambda: ends[0].cancelled())
            assert await run.status() == "pending"

    asyncio.run(use())


def test_closing_ends_waits(url: str) -> None:
    async def use() -> None:
        far = AsyncHttpClient(url)
        run = await far.start(hello, name="you")
        waiting = asyncio.create_task(run.wait())
        await soon(lambda: far.sync.waits._running is not None)
        await far.close()
        with pytest.raises(UsageError, match="closed"):
            await waiting

    asyncio.run(use())


def test_it_is_made_of_the_environment() -> None:
    with pytest.raises(SettingsInvalid, match="ORCHESTRATOR_API_URL"):
        AsyncHttpClient.from_env({})
    made = AsyncHttpClient.from_env({"ORCHESTRATOR_API_URL": "https://flows.example"})
    assert made.sync.transport.url == "https://flows.example"
    asyncio.run(made.close())
