"""Temporal: its development server on a SQLite file, and two worker processes."""

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any, Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from benchmarks.peers.lines import Processes, beside_python, free_port, serve, timed
from benchmarks.peers.temporal_flows import QUEUE, Chain, Fan
from benchmarks.window import one_by_one

_WORKERS: Final = 2
_AT_ONCE: Final = 100
_NOBODYS: Final = "nobodys"
_SERVER: Final = (
    "--headless",
    "--log-level=error",
    "--sqlite-pragma=journal_mode=wal",
    "--sqlite-pragma=synchronous=full",
    # By itself the development server looks for transfers and timers twenty times a second.
    "--dynamic-config-value=history.transferProcessorMaxPollRPS=10000",
    "--dynamic-config-value=history.timerProcessorMaxPollRPS=10000",
    "--dynamic-config-value=history.visibilityProcessorMaxPollRPS=10000",
)


class Workflows:
    def __init__(self) -> None:
        port = free_port()
        self._address = f"127.0.0.1:{port}"
        self._processes = Processes()
        self._runner = asyncio.Runner()
        database = Path(os.environ["PEER_FOLDER"]) / f"{uuid.uuid4().hex}.db"
        command = [beside_python("temporal"), "server", "start-dev", "--ip=127.0.0.1", f"--port={port}"]
        self._processes.start([*command, f"--db-filename={database}", *_SERVER])
        self._processes.wait_for(self._connected, "the server")
        for _ in range(_WORKERS):
            self._processes.python("benchmarks.peers.temporal_flows", self._address)
        self._processes.wait_for(lambda: self._runner.run(self._polled()) >= _WORKERS, "a worker")

    def _connected(self) -> bool:
        try:
            self._client = self._runner.run(Client.connect(self._address))
        except RuntimeError:
            return False
        return True

    async def _polled(self) -> int:
        """How many processes ask for work."""
        request = DescribeTaskQueueRequest(
            namespace="default",
            task_queue=TaskQueue(name=QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        reply = await self._client.workflow_service.describe_task_queue(request)
        return len({poller.identity for poller in reply.pollers})

    def chains(self, count: int) -> float:
        async def all_of_them() -> None:
            handles = await self._started(count, QUEUE)
            for handle in handles:
                await handle.result()

        return timed(lambda: self._runner.run(all_of_them()))

    def plain(self, count: int) -> float:
        run = self._runner.run
        return timed(
            lambda: one_by_one(count, lambda value: run(self._start(value, QUEUE)), lambda handle: run(handle.result()))
        )

    def chain(self, count: int) -> float:
        return self._one(Chain, 1)

    def fan(self, count: int) -> float:
        return self._one(Fan, count)

    def _one(self, kind: Any, value: int) -> float:
        async def one() -> None:
            await self._client.execute_workflow(kind.run, value, id=uuid.uuid4().hex, task_queue=QUEUE)

        return timed(lambda: self._runner.run(one()))

    def start_each(self, count: int) -> float:
        async def each() -> None:
            for value in range(count):
                await self._start(value, _NOBODYS)

        return timed(lambda: self._runner.run(each()))

    def start_many(self, count: int) -> float:
        return timed(lambda: self._runner.run(self._started(count, _NOBODYS)))

    async def _started(self, count: int, queue: str) -> list[Any]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(value: int) -> Any:
            async with room:
                return await self._start(value, queue)

        return await asyncio.gather(*[one(value) for value in range(count)])

    async def _start(self, value: int, queue: str) -> Any:
        return await self._client.start_workflow(Chain.run, value, id=uuid.uuid4().hex, task_queue=queue)

    def close(self) -> None:
        self._processes.stop()
        self._runner.close()


if __name__ == "__main__":
    serve(Workflows)
