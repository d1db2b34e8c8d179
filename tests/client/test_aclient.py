"""The asyncio shell."""

import asyncio
import subprocess
import sys

import pytest

from orchestrator.client.aclient import AsyncClient
from orchestrator.core.states import RunStatus
from orchestrator.errors import InputInvalid, RunCancelled, WaitTimeout
from orchestrator.settings import Settings
from tests.support import play
from tests.support.small_flows import Greeting, hello


def test_a_run_is_started_awaited_and_read(settings: Settings) -> None:
    async def main() -> Greeting:
        async with AsyncClient(settings) as client:
            run = await client.start(hello, name="you", tags=["async"])
            assert [row.id for row in await client.runs(tag="async")] == [run.id]
            assert [step.key for step in await run.steps()] == ["greet", "measure"]
            waiting = asyncio.create_task(run.result(timeout=60))
            await client.thread(play.finish_hello, client.sync.ledger, run.id)
            assert (await run.events())[0].type == "run.accepted"
            assert [step.key async for step in run.all_steps()] == ["greet", "measure"]
            assert "run.accepted" in [event.type async for event in run.all_events()]
            assert (await run.step("greet")).attempts == len(await run.attempts("greet")) == 1
            assert await run.output("greet") == "hello you"
            return await waiting

    assert asyncio.run(main()) == Greeting("hello you", 9)


def test_many_waits_share_few_threads(settings: Settings) -> None:
    """A thread for each wait would leave none for the calls that end them."""

    async def main() -> list[RunStatus]:
        async with AsyncClient(settings) as client:
            runs = await client.start_many(hello, [{"name": "you"}] * 60)
            waits = [asyncio.create_task(run.wait(timeout=60)) for run in runs]
            await asyncio.sleep(0)
            for run in runs:
                await run.cancel("enough", by="me")
            return await asyncio.gather(*waits)

    assert asyncio.run(main()) == [RunStatus.CANCELLED] * 60


def test_errors_and_cancellation_pass_through(settings: Settings) -> None:
    async def main() -> None:
        async with AsyncClient(settings) as client:
            with pytest.raises(InputInvalid):
                await client.start(hello, nam="you")
            run = await client.start(hello, name="you")
            with pytest.raises(WaitTimeout):
                await run.wait(timeout=0.1)
            endless = asyncio.create_task(run.wait())
            await asyncio.sleep(0.05)
            endless.cancel()
            with pytest.raises(asyncio.CancelledError):
                await endless
            await run.cancel("done", by="me")
            with pytest.raises(RunCancelled):
                await (await client.run(str(run.id))).result()

    asyncio.run(main())


def test_it_is_there_without_greenlet() -> None:
    """Only connections of SQLAlchemy for asyncio need that; whoever has one has installed it."""
    code = "import sys; sys.modules['greenlet'] = None; from orchestrator.client import AsyncClient, Client"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
