"""Prefect's flows, run in the process that calls them, and their driver. Imported once the settings are in place."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

from benchmarks.peers.lines import CHAIN, Processes, timed
from benchmarks.window import OPEN

_AT_ONCE: Final = 16
_LATER: Final = timedelta(hours=1)


@task
async def add_one(value: int) -> int:
    return value + 1


@task
async def total(values: list[int]) -> int:
    return sum(values)


@flow
async def chain(value: int) -> int:
    for _ in range(CHAIN):
        value = await add_one(value)
    return value


@flow
async def fan(count: int) -> int:
    return await total(await asyncio.gather(*[add_one(value) for value in range(count)]))


async def _scheduled(count: int, at_once: int) -> None:
    """Runs that are scheduled, and that no worker looks for."""
    room = asyncio.Semaphore(at_once)
    async with get_client() as client:

        async def one(value: int) -> None:
            async with room:
                state = Scheduled(scheduled_time=datetime.now(UTC) + _LATER)
                await client.create_flow_run(chain, parameters={"value": value}, state=state)

        await asyncio.gather(*[one(value) for value in range(count)])


async def _called(count: int, at_once: int) -> None:
    room = asyncio.Semaphore(at_once)

    async def one(value: int) -> None:
        async with room:
            await chain(value)

    await asyncio.gather(*[one(value) for value in range(count)])


class Flows:
    def __init__(self, server: Processes) -> None:
        self._server = server
        self._runner = asyncio.Runner()

    def chains(self, count: int) -> float:
        return timed(lambda: self._runner.run(_called(count, _AT_ONCE)))

    def plain(self, count: int) -> float:
        """A flow runs where it is called, so what is open is what is called."""
        return timed(lambda: self._runner.run(_called(count, OPEN)))

    def chain(self, count: int) -> float:
        return timed(lambda: self._runner.run(chain(1)))

    def fan(self, count: int) -> float:
        return timed(lambda: self._runner.run(fan(count)))

    def start_each(self, count: int) -> float:
        return timed(lambda: self._runner.run(_scheduled(count, 1)))

    def start_many(self, count: int) -> float:
        return timed(lambda: self._runner.run(_scheduled(count, _AT_ONCE)))

    def close(self) -> None:
        self._runner.close()
        self._server.stop()
