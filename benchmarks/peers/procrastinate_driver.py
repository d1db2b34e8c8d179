"""Procrastinate, two worker processes with 16 coroutines each. It keeps no results and has no join.

A step of a chain defers the next one. The join of a fan-out is deferred by this program once no job is open, which is
cheaper than any join that would survive this program's end.
"""

import asyncio
import os
import time
from typing import Any, Final

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.peers.lines import CHAIN, Processes, serve, timed
from benchmarks.window import OPEN

_WORKERS: Final = 2
_COROUTINES: Final = 16
_LOOK_S: Final = 0.002
_OPEN: Final = """
SELECT EXISTS (SELECT FROM procrastinate_jobs
                WHERE status = ANY (ARRAY['todo', 'doing']::procrastinate_job_status[]) AND queue_name = 'bench')
"""

app = App(
    connector=PsycopgConnector(conninfo=os.environ["PEER_DATABASE_URL"], min_size=1, max_size=_COROUTINES + 4),
    import_paths=["benchmarks.peers.procrastinate_driver"],
)


@app.task(name="link", queue="bench")
async def link(value: int, left: int) -> None:
    if left:
        await app.tasks["link"].defer_async(value=value + 1, left=left - 1)


@app.task(name="add_one", queue="bench")
async def add_one(value: int) -> int:
    return value + 1


@app.task(name="total", queue="bench")
async def total(count: int) -> int:
    return count


class Jobs:
    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._look = psycopg.connect(os.environ["PEER_DATABASE_URL"], autocommit=True)
        self._workers = Processes()
        self._runner.run(self._open())
        for _ in range(_WORKERS):
            self._workers.python(
                "procrastinate",
                "--log-level=warning",
                "--app=benchmarks.peers.procrastinate_driver.app",
                "worker",
                f"--concurrency={_COROUTINES}",
                "--queues=bench",
            )
        self._workers.wait_for(self._listen, "a worker")

    async def _open(self) -> None:
        await app.open_async()
        if self._look.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() == (None,):
            await app.schema_manager.apply_schema_async()
        self._look.execute("DELETE FROM procrastinate_workers")  # of a turn that was killed

    def _listen(self) -> bool:
        row = self._look.execute("SELECT count(*) FROM procrastinate_workers").fetchone()
        return row is not None and bool(row[0] >= _WORKERS)

    def _ended(self) -> None:
        while (row := self._look.execute(_OPEN).fetchone()) is not None and row[0]:
            time.sleep(_LOOK_S)

    def chains(self, count: int) -> float:
        return timed(lambda: (self._runner.run(self._many(count, "bench")), self._ended()))

    def plain(self, count: int) -> float:
        """It has no way to wait for one: 64 at a time, until none of them is open."""
        batches = [min(OPEN, count - done) for done in range(0, count, OPEN)]
        return timed(lambda: [(self._runner.run(self._each(size, "bench")), self._ended()) for size in batches])

    def chain(self, count: int) -> float:
        return timed(lambda: (self._runner.run(self._one(1, "bench")), self._ended()))

    def fan(self, count: int) -> float:
        return timed(lambda: self._fan(count))

    def _fan(self, count: int) -> None:
        self._runner.run(add_one.batch_defer_async(*[{"value": value} for value in range(count)]))
        self._ended()
        self._runner.run(total.defer_async(count=count))
        self._ended()

    def start_each(self, count: int) -> float:
        return timed(lambda: self._runner.run(self._each(count, "nobodys")))

    def start_many(self, count: int) -> float:
        return timed(lambda: self._runner.run(self._many(count, "nobodys")))

    async def _each(self, count: int, queue: str) -> None:
        for value in range(count):
            await self._one(value, queue)

    async def _one(self, value: int, queue: str) -> None:
        await self._link(queue).defer_async(value=value, left=CHAIN - 1)

    async def _many(self, count: int, queue: str) -> None:
        await self._link(queue).batch_defer_async(*[{"value": value, "left": CHAIN - 1} for value in range(count)])

    def _link(self, queue: str) -> Any:
        return link.configure(queue=queue)

    def close(self) -> None:
        self._look.execute("DELETE FROM procrastinate_jobs WHERE queue_name = 'nobodys'")
        self._workers.stop()
        self._runner.run(app.close_async())
        self._look.close()
        self._runner.close()


if __name__ == "__main__":
    serve(Jobs)
