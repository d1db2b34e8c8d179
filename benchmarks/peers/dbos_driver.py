"""DBOS in process, in two processes: the program that starts a workflow is the one that runs it."""

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions

from benchmarks.peers.lines import CHAIN, Driver, serve, timed
from benchmarks.window import one_by_one

_THREADS: Final = 16
_STARTERS: Final = 4
_NOBODYS: Final = "nobodys"
"""A queue that is not registered, so no process works on it."""


@DBOS.step()
def add_one(value: int) -> int:
    return value + 1


@DBOS.workflow()
def chain(value: int) -> int:
    for _ in range(CHAIN):
        value = add_one(value)
    return value


@DBOS.step()
async def item(value: int) -> int:
    return value + 1


@DBOS.workflow()
async def fan(count: int) -> int:
    """Steps side by side, which only an asynchronous workflow has; less than half the price of a workflow per item."""
    return sum(await asyncio.gather(*[item(value) for value in range(count)]))


async def run_fan(count: int) -> int:
    return await (await DBOS.start_workflow_async(fan, count)).get_result()


class Executor:
    """One process that starts workflows and runs them in its own threads."""

    def __init__(self, number: int) -> None:
        config: DBOSConfig = {
            "name": "bench",
            "system_database_url": os.environ["PEER_DATABASE_URL"],
            "max_executor_threads": _THREADS,
            "executor_id": str(number),
            "application_version": "1",
            "log_level": "ERROR",
        }
        DBOS(config=config)
        DBOS.launch()
        self._runner = asyncio.Runner()

    def chains(self, count: int) -> float:
        return timed(lambda: [h.get_result() for h in [DBOS.start_workflow(chain, v) for v in range(count)]])

    def plain(self, count: int) -> float:
        return timed(lambda: one_by_one(count, lambda v: DBOS.start_workflow(chain, v), lambda h: h.get_result()))

    def chain(self, count: int) -> float:
        return timed(lambda: DBOS.start_workflow(chain, 1).get_result())

    def fan(self, count: int) -> float:
        return timed(lambda: self._runner.run(run_fan(count)))

    def start_each(self, count: int) -> float:
        raise NotImplementedError

    def start_many(self, count: int) -> float:
        raise NotImplementedError

    def close(self) -> None:
        self._runner.close()
        DBOS.destroy()


class Pair(Executor):
    """This process and a second one that is told to do half of every saturated round."""

    def __init__(self) -> None:
        super().__init__(1)
        self._client = DBOSClient(system_database_url=os.environ["PEER_DATABASE_URL"], system_database_pool_size=8)
        self._second = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.dbos_driver", "second"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()

    def _hear(self) -> None:
        assert self._second.stdout is not None
        reply = json.loads(self._second.stdout.readline() or '{"error": "the second process ended"}')
        if "error" in reply:
            raise RuntimeError(reply["error"])

    def chains(self, count: int) -> float:
        return timed(lambda: self._shared(count))

    def _shared(self, count: int) -> None:
        assert self._second.stdin is not None
        self._second.stdin.write(json.dumps({"do": "chains", "count": count // 2}) + "\n")
        self._second.stdin.flush()
        super().chains(count - count // 2)
        self._hear()

    def start_each(self, count: int) -> float:
        return timed(lambda: [self._enqueue(value) for value in range(count)])

    def start_many(self, count: int) -> float:
        with ThreadPoolExecutor(_STARTERS) as starters:
            return timed(lambda: list(starters.map(self._enqueue, range(count))))

    def _enqueue(self, value: int) -> None:
        options: EnqueueOptions = {"queue_name": _NOBODYS, "workflow_name": chain.__qualname__}
        self._client.enqueue(options, value)

    def close(self) -> None:
        assert self._second.stdin is not None
        self._second.stdin.close()
        self._second.wait(20)
        self._client.destroy()
        super().close()


def _make() -> Driver:
    return Executor(2) if sys.argv[1:] == ["second"] else Pair()


if __name__ == "__main__":
    serve(_make)
