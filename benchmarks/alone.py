"""Ours beside itself: with a long history, with more processes, over a long time; and what a run costs the servers."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import redis
from pydantic import SecretStr

from benchmarks import cpu, flows, workloads
from benchmarks.command import in_database
from benchmarks.contenders import CHAIN, Ours, succeeded, worker
from benchmarks.cpu import Cpu
from benchmarks.figures import number
from benchmarks.fill import fill
from benchmarks.processes import BenchFailed
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator import Client, Settings
from orchestrator.ledger import migrate, reads
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.servers.embedded.valkey import EmbeddedValkey

_EMPTY: Final = "empty ledger"
_ONE: Final = "one worker process"
_FOUR: Final = "four worker processes on two queues"
_SAMPLES: Final = 10


@dataclass(frozen=True)
class Ground:
    """The servers of one benchmark, and room for logs."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    folder: Path

    @property
    def pids(self) -> Mapping[str, int]:
        return {"postgres": self.postgres.pid, "valkey": self.valkey.pid}

    def database(self, name: str) -> str:
        """The URL of a new database."""
        with psycopg.connect(self.postgres.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        return in_database(self.postgres.url, name)

    def broker(self, number_: int) -> str:
        """The same server, another of its numbered databases."""
        return in_database(self.valkey.url, number_)

    @contextmanager
    def ours(
        self, database_url: str, broker: int, name: str, flows: str = "benchmarks.flows", **more: str
    ) -> Iterator[Ours]:
        made = Ours(database_url, self.broker(broker), self.pids, self.folder, name, flows, **more)
        try:
            yield made
        finally:
            made.close()


def history(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """The chain in a ledger that holds a year of runs, and in an empty one."""
    full = f"{sizes.history:,} finished runs"
    url = ground.database("history")
    fill(url, sizes.history, say=lambda text: say(f"history: {text}"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")  # otherwise what was filled is written while the chains run
    with ground.ours(url, 3, full) as old, ground.ours(ground.database("young"), 4, _EMPTY) as young:
        result = workloads.chain([old, young], sizes, say, f"Chain of five with {full} in the ledger")
    result.names = (full, _EMPTY)
    return result


class _Four:
    """Two supervised commands of two processes each, on two queues; half of the chains on each."""

    name = _FOUR

    def __init__(self, ground: Ground) -> None:
        database_url = ground.database("four")
        self._settings = Settings(database_url=SecretStr(database_url), broker_url=SecretStr(ground.broker(6)))
        migrate.upgrade(database_url)
        self._pids = ground.pids
        self._processes = [worker(self._settings, ground.folder, queue, queue, 2) for queue in ("default", "other")]
        self._client = Client(self._settings)
        for process in self._processes:
            process.wait_ready(lambda: len(reads.workers.every(self._client.ledger)) == 4)

    def chains(self, count: int) -> None:
        inputs = [{"value": value} for value in range(count)]
        handles = self._client.start_many(flows.chain, inputs[::2])
        handles += self._client.start_many(flows.other, inputs[1::2])
        for handle in handles:
            succeeded(handle)

    def cpu(self) -> Cpu:
        return cpu.together([process.pid for process in self._processes], self._pids)

    def restart(self) -> None:
        raise BenchFailed("Runs of ours did not end in time. Fix: measure on a machine that has less to do.")

    def close(self) -> None:
        self._client.close()
        for process in self._processes:
            process.stop()


def scale(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Four processes instead of one: no throughput may be lost, and no CPU."""
    with ExitStack() as stack:
        four = _Four(ground)
        stack.callback(four.close)
        one = stack.enter_context(ground.ours(ground.database("single"), 5, _ONE))
        contenders: list[Any] = [four, one]
        result = workloads.chain(contenders, sizes, say, "Chain of five, four worker processes")
    result.names = (_FOUR, _ONE)
    result.rows = [row for row in result.rows if "main process" not in row.what and "pool children" not in row.what]
    return result


def costs(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """What one chain of five at a time asks of the servers."""
    with ground.ours(ground.database("costs"), 7, "costs") as ours:
        for _ in range(10):
            ours.chain()
        before = _counted(ground, sizes.flushed_s)
        for _ in range(sizes.single_runs):
            ours.chain()
        after = _counted(ground, sizes.flushed_s)
    spent = {what: (after[what] - before[what]) / sizes.single_runs for what in before}
    say("costs: " + ", ".join(f"{what} {number(value)}" for what, value in spent.items()))
    notes = [f"{what}: **{number(value)}** per run, {number(value / CHAIN)} per step" for what, value in spent.items()]
    notes.append(
        "With everything that goes on beside it: the confirmation of messages, the client that looks for the end, "
        "heartbeats, the worker's blocking reads."
    )
    return Result("What one chain of five costs the servers, one at a time", notes=notes)


def _counted(ground: Ground, flushed_s: float) -> dict[str, float]:
    time.sleep(flushed_s)
    with psycopg.connect(ground.postgres.url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT (SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'),"
            " (SELECT sum(xact_commit) FROM pg_stat_database), pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        ).fetchone()
    assert row is not None
    with redis.Redis.from_url(ground.valkey.url) as client:
        info: Any = client.info("stats")
    names = ("commits that wait for the disk", "transactions, reading ones too", "bytes of WAL")
    values = dict(zip(names, map(float, row), strict=True))
    return {**values, "commands to Valkey": float(info["total_commands_processed"])}


def memory(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Resident memory of a worker over many steps, in chains and in fan-outs."""
    with ground.ours(ground.database("memory"), 8, "memory") as ours:
        ours.chains(20)
        part = sizes.memory_steps // _SAMPLES
        samples = [resident(ours.pid)]
        for turn in range(_SAMPLES):
            ours.chains(max(1, part // CHAIN)) if turn % 2 == 0 else ours.fan(part)
            samples.append(resident(ours.pid))
            main, children = samples[-1]
            say(f"memory: {part * (turn + 1):,} steps, main {main:.0f} MB, children {children:.0f} MB")
    notes = []
    for role, values in zip(("main process with the keeper", "pool children"), zip(*samples, strict=True), strict=True):
        half = len(values) // 2
        slope = (values[-1] - values[half]) / (part * (len(values) - 1 - half)) * 100_000
        notes.append(
            f"{role}: {number(values[0])} MB at the start, {number(values[half])} after {part * half:,} steps, "
            f"{number(values[-1])} after {part * _SAMPLES:,}; "
            f"slope of the second half **{slope:+.2f} MB per 100,000 steps**"
        )
    return Result(f"Memory of one worker process over {sizes.memory_steps:,} steps", notes=notes)


def resident(pid: int) -> tuple[float, float]:
    """MB of the main process, and of its children: what is theirs alone."""
    main = psutil.Process(pid)
    return _private(main), sum(_private(child) for child in main.children(recursive=True))


def _private(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 2**20
