"""Who is measured: this orchestrator and bare Celery, behind the same few methods."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import redis
from celery import chain as celery_chain
from celery import chord as celery_chord
from celery.exceptions import TimeoutError as CeleryTimeout
from pydantic import SecretStr

from benchmarks import bare_celery, cpu, flows
from benchmarks.cpu import Cpu
from benchmarks.processes import BenchFailed, Process
from orchestrator import Client, RunStatus, Settings, WaitTimeout
from orchestrator.ledger import migrate, reads

CHAIN: Final = 5
STARTS_AT_ONCE: Final = 500
_PATIENCE_S: Final = 180.0
_FAN_S: Final = 100.0
CONCURRENCY: Final = 2


class Contender(Protocol):
    name: str

    def chains(self, count: int) -> None:
        """Start that many chains of five and see the end of each."""

    def chain(self) -> float:
        """Seconds from the start of one chain to its observed end."""

    def fan(self, count: int) -> float:
        """Seconds for `count` steps side by side and their join.

        Raises:
            TimeoutError: it takes too long; `restart` before anything else.
        """

    def start_each(self, count: int) -> None:
        """Start chains one at a time; nobody works on them until `go_on`."""

    def start_many(self, count: int) -> None:
        """Start chains in one call; nobody works on them until `go_on`."""

    def pause(self) -> None: ...

    def go_on(self) -> None:
        """Let the worker go on, and wait until everything that was started has ended."""

    def cpu(self) -> Cpu: ...

    def restart(self) -> None:
        """Drop what is under way, with the process that works on it."""

    def close(self) -> None: ...


class Ours:
    """`orchestrator worker`: one process, prefork, two children, every default but the log level."""

    name = "orchestrator"

    def __init__(self, database_url: str, broker_url: str, servers: Mapping[str, int], folder: Path) -> None:
        settings = Settings(database_url=SecretStr(database_url), broker_url=SecretStr(broker_url))
        migrate.upgrade(settings.require_database_url())
        self._servers = servers
        self._process = worker(settings, folder, "orchestrator")
        self.client = Client(settings)
        self._process.wait_ready(lambda: bool(reads.workers(self.client.ledger)))
        self._open: list[Any] = []

    def chains(self, count: int) -> None:
        handles = self.client.start_many(flows.chain, [{"value": value} for value in range(count)])
        for handle in handles:
            _succeeded(handle.wait(_PATIENCE_S))

    def chain(self) -> float:
        began = time.perf_counter()
        _succeeded(self.client.start(flows.chain, value=1).wait(_PATIENCE_S))
        return time.perf_counter() - began

    def recorded_chain(self) -> float:
        """Seconds from the accepted start to the recorded end, both by the ledger's clock."""
        return self._recorded(self.client.start(flows.chain, value=1))

    def fan(self, count: int) -> float:
        """By the ledger's clock: `wait` looks too seldom to time a long run to the millisecond."""
        return self._recorded(self.client.start(flows.fan, count=count), _FAN_S)

    def _recorded(self, handle: Any, patience_s: float = _PATIENCE_S) -> float:
        try:
            _succeeded(handle.wait(patience_s))
        except WaitTimeout as exc:
            raise TimeoutError(str(exc)) from exc
        row = handle.row()
        return float((row.ended_at - row.created_at).total_seconds())

    def start_each(self, count: int) -> None:
        self._open += [self.client.start(flows.chain, value=value) for value in range(count)]

    def start_many(self, count: int) -> None:
        self._open += self.client.start_many(flows.chain, [{"value": value} for value in range(count)])

    def pause(self) -> None:
        self._process.pause()

    def go_on(self) -> None:
        self._process.go_on()
        opened, self._open = self._open, []
        for handle in opened:
            _succeeded(handle.wait(_PATIENCE_S))

    def cpu(self) -> Cpu:
        return cpu.read(self._process.pid, self._servers)

    def restart(self) -> None:
        raise BenchFailed("A fan-out took more than 100 s. Fix: measure on a machine that has less to do.")

    def close(self) -> None:
        self.client.close()
        self._process.stop()


def worker(settings: Settings, folder: Path, name: str, queue: str = "default", **env: str) -> Process:
    """A worker of ours, started by its command. At log level WARNING, as Celery's own default is."""
    urls = {
        "ORCHESTRATOR_DATABASE_URL": settings.require_database_url(),
        "ORCHESTRATOR_BROKER_URL": settings.require_broker_url(),
    }
    command = ["-m", "orchestrator", "worker", "--pool", "prefork", "--concurrency", str(CONCURRENCY)]
    command += ["--flows", "benchmarks.flows", "--queues", queue, "--log-level", "WARNING"]
    return Process(name, command, {**urls, **env}, folder)


def _succeeded(status: RunStatus) -> None:
    if status is not RunStatus.SUCCEEDED:
        raise BenchFailed(f"A run ended {status}.")


class Bare:
    """`celery worker`: prefork, two children, prefetch 4, late acks, results in Valkey. Not durable."""

    def __init__(self, name: str, broker_url: str, ack_emulation: bool, valkey: int, folder: Path) -> None:
        self.name = name
        self._url = broker_url
        self._ack_emulation = ack_emulation
        self._valkey = valkey
        self._folder = folder
        self._start()

    def _start(self) -> None:
        env = {"BENCH_BROKER_URL": self._url, "BENCH_ACK_EMULATION": "1" if self._ack_emulation else "0"}
        command = ["-m", "celery", "-A", "benchmarks.bare_celery", "worker", "--pool", "prefork"]
        command += ["--concurrency", str(CONCURRENCY), "--without-gossip", "--without-mingle"]
        self._process = Process(self.name.replace(" ", "-").replace(",", ""), command, env, self._folder)
        self._app = bare_celery.make_app(self._url, self._ack_emulation)
        self._add_one, self._total = self._app.tasks["bare.add_one"], self._app.tasks["bare.total"]
        self._process.wait_ready(lambda: bool(self._app.control.ping(timeout=0.5)))
        self._open: list[Any] = []

    def restart(self) -> None:
        self._process.kill()
        self._app.close()
        with redis.Redis.from_url(self._url) as client:
            client.flushdb()
        self._start()

    def _chain(self, value: int) -> Any:
        return celery_chain(self._add_one.s(value), *[self._add_one.s() for _ in range(CHAIN - 1)])

    def _started_at_once(self, count: int) -> list[Any]:
        """With what Celery 5.7 has for many: a batch of one round trip."""
        with self._app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=STARTS_AT_ONCE):
            return [self._chain(value).apply_async(producer=producer, retry=False) for value in range(count)]

    def chains(self, count: int) -> None:
        for result in self._started_at_once(count):
            result.get(timeout=_PATIENCE_S)

    def chain(self) -> float:
        began = time.perf_counter()
        self._chain(1).apply_async().get(timeout=_PATIENCE_S)
        return time.perf_counter() - began

    def fan(self, count: int) -> float:
        began = time.perf_counter()
        header = [self._add_one.s(value) for value in range(count)]
        try:
            celery_chord(header, self._total.s()).apply_async().get(timeout=_FAN_S)
        except CeleryTimeout as exc:
            raise TimeoutError(f"a chord of {count:,} did not end within {_FAN_S:.0f} s") from exc
        return time.perf_counter() - began

    def start_each(self, count: int) -> None:
        self._open += [self._chain(value).apply_async() for value in range(count)]

    def start_many(self, count: int) -> None:
        self._open += self._started_at_once(count)

    def pause(self) -> None:
        self._process.pause()

    def go_on(self) -> None:
        self._process.go_on()
        opened, self._open = self._open, []
        for result in opened:
            result.get(timeout=_PATIENCE_S)

    def cpu(self) -> Cpu:
        return cpu.read(self._process.pid, {"valkey": self._valkey})

    def close(self) -> None:
        self._process.stop()
        self._app.close()
