"""Temporal's workflows and activities, and the program of one of its workers: `-m … ADDRESS`."""

import asyncio
import sys
from datetime import timedelta
from typing import Final

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE: Final = "bench"
_CHAIN: Final = 5
_PATIENCE: Final = timedelta(seconds=60)


@activity.defn
async def add_one(value: int) -> int:
    return value + 1


@activity.defn
async def total(values: list[int]) -> int:
    return sum(values)


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, value: int) -> int:
        for _ in range(_CHAIN):
            value = await workflow.execute_activity(add_one, value, start_to_close_timeout=_PATIENCE)
        return value


@workflow.defn
class Fan:
    @workflow.run
    async def run(self, count: int) -> int:
        steps = [workflow.execute_activity(add_one, v, start_to_close_timeout=_PATIENCE) for v in range(count)]
        values = await asyncio.gather(*steps)
        return await workflow.execute_activity(total, values, start_to_close_timeout=_PATIENCE)


async def _work(address: str) -> None:
    client = await Client.connect(address)
    await Worker(client, task_queue=QUEUE, workflows=[Chain, Fan], activities=[add_one, total]).run()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
