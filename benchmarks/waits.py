"""Ten thousand waits that are over at once: how long two keepers take to let their runs go on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from pydantic import SecretStr

from benchmarks import cpu, waiting_flows
from benchmarks.alone import Ground
from benchmarks.figures import number
from benchmarks.processes import BenchFailed, Process
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator import Client, Settings
from orchestrator.ledger import migrate

_BROKER: Final = 11
_KEEPERS: Final = 2
_BATCH: Final = 500
_STARTS_PER_S: Final = 300
"""What a slow machine accepts; the waits must not be over before all have begun."""
_PATIENCE_S: Final = 300.0
_LAGS: Final = """
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY lag), percentile_disc(0.99) WITHIN GROUP (ORDER BY lag),
       max(lag), min(lag)
  FROM (SELECT EXTRACT(epoch FROM ended_at - %s)::float AS lag FROM flow_steps WHERE kind = 'wait') AS waits
"""


class _Field:
    """A ledger, and workers with a keeper each."""

    def __init__(self, ground: Ground) -> None:
        self._url, self._ground = ground.database("waits"), ground
        migrate.upgrade(self._url)
        self.settings = Settings(database_url=SecretStr(self._url), broker_url=SecretStr(ground.broker(_BROKER)))
        self._workers = [self._worker(f"waiting-worker-{n}") for n in range(_KEEPERS)]

    def _worker(self, name: str) -> Process:
        env = {
            "ORCHESTRATOR_DATABASE_URL": self.settings.require_database_url(),
            "ORCHESTRATOR_BROKER_URL": self.settings.require_broker_url(),
        }
        command = ["-m", "orchestrator", "worker", "--concurrency", "1", "--flows", "benchmarks.waiting_flows"]
        made = Process(name, command, env, self._ground.folder)
        made.wait_ready(lambda: " ready." in made.log_file.read_text(errors="replace"))
        return made

    def start(self, count: int, at: datetime) -> None:
        with Client(self.settings) as client:
            for begin in range(0, count, _BATCH):
                inputs = [{"at": at}] * min(_BATCH, count - begin)
                client.start_many(waiting_flows.woken, inputs)

    def count(self, query: str) -> int:
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def lags(self, at: datetime) -> tuple[float, ...]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute(_LAGS, (at,)).fetchone()
        assert row is not None
        return tuple(row)

    def cpu(self) -> cpu.Cpu:
        return cpu.together([one.pid for one in self._workers], self._ground.pids)

    def close(self) -> None:
        for process in self._workers:
            process.stop()


@contextmanager
def _field(ground: Ground) -> Iterator[_Field]:
    made = _Field(ground)
    try:
        yield made
    finally:
        made.close()


def waits(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """All begin before the moment that they wait for; then it comes."""
    count, notes = sizes.waits, []

    def note(text: str) -> None:
        notes.append(text)
        say(f"waits: {text}")

    with _field(ground) as field:
        at = datetime.now(UTC) + timedelta(seconds=5 + count / _STARTS_PER_S)
        field.start(count, at)
        waiting = "SELECT count(*) FROM flow_steps WHERE wake_at IS NOT NULL"
        if field.count(waiting) < count or datetime.now(UTC) >= at:
            raise BenchFailed("The moment came before all waited for it. Fix: measure on a quiet machine.")
        time.sleep((at - datetime.now(UTC)).total_seconds())
        before = field.cpu()
        _until(lambda: field.count(waiting) == 0, "every wait is over")
        middle, high, most, least = field.lags(at)
        if least < 0:
            raise BenchFailed(f"A wait was over {-least} s before its time.")
        spent = ", ".join(f"{role} {number(ms)} ms" for role, ms in (field.cpu() - before).ms_per(count).items())
        note(f"{count:,} over at once, {_KEEPERS} keepers: **all gone after {number(most)} s**")
        note(f"how late: p50 {number(middle)} s, p99 {number(high)} s")
        note(f"CPU for each, beside the steps that began meanwhile: {spent}")
        _until(lambda: field.count("SELECT count(*) FROM flow_runs WHERE ended_at IS NULL") == 0, "every run has ended")
        note(f"every run ended after {number((datetime.now(UTC) - at).total_seconds())} s")
    return Result(f"{count:,} waits", notes=notes)


def _until(check: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + _PATIENCE_S
    while not check():
        if time.monotonic() > ends:
            raise BenchFailed(f"It took longer than {_PATIENCE_S:.0f} s until {what}. Fix: measure on a quiet machine.")
        time.sleep(0.2)
