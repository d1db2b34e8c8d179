"""What is measured: this orchestrator and bare Celery, behind the same few methods."""

import re
import time
import uuid
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
from benchmarks.window import one_by_one
from orchestrator import Client, RunStatus, Settings, WaitTimeout
from orchestrator.ledger import migrate, reads
from orchestrator.settings import variable

CHAIN: Final = 5
STARTS_AT_ONCE: Final = 500
_PATIENCE_S: Final = 60.0
_FAN_S: Final = 100.0
CONCURRENCY: Final = 2


class Contender(Protocol):
    name: str

    def chains(self, count: int) -> None:
        """Start that many chains of five and see the end of each.

        Raises:
            TimeoutError: one does not end, here and below; `restart` before anything else.
        """

    def plain(self, count: int) -> None:
        """Start that many chains one by one, keep 64 open, see the end of each."""

    def chain(self) -> float:
        """Seconds from the start of one chain to its observed end."""

    def fan(self, count: int) -> float:
        """Seconds for `count` steps side by side and their join."""

    def start_each(self, count: int) -> None:
        """Start chains one at a time; nobody works on them until `go_on`."""

    def start_many(self, count: int) -> None:
        """Start chains in one call; nobody works on them until `go_on`."""

    def pause(self) -> None: ...

    def go_on(self) -> None:
        """Let the worker go on; what was started is done, or dropped, when this returns."""

    def cpu(self) -> Cpu: ...

    def restart(self) -> None:
        """Drop what is under way, with the process that works on it."""

    def close(self) -> None: ...


class Ours:
    """`orchestrator worker`: one process, prefork, two children, every default but the log level."""

    def __init__(
        self,
        database_url: str,
        broker_url: str,
        servers: Mapping[str, int],
        folder: Path,
        name: str = "orchestrator",
        flows: str = "benchmarks.flows",
        **more: str,
    ) -> None:
        self.name = name
        urls = {"database_url": SecretStr(database_url), "broker_url": SecretStr(broker_url)}
        settings = Settings.model_validate({**urls, **more})
        env = {variable(name): value for name, value in more.items()}
        migrate.upgrade(settings.require_database_url())
        self._servers = servers
        self._process = worker(settings, folder, re.sub(r"\W+", "-", name), flows=flows, **env)
        self.client = Client(settings)
        self._process.wait_ready(lambda: bool(reads.workers.every(self.client.ledger)))
        self._open: list[Any] = []

    def chains(self, count: int) -> None:
        handles = self.client.start_many(flows.chain, [{"value": value} for value in range(count)])
        for handle in handles:
            succeeded(handle)

    def plain(self, count: int) -> None:
        one_by_one(count, lambda value: self.client.start(flows.chain, value=value), succeeded)

    def chain(self) -> float:
        began = time.perf_counter()
        succeeded(self.client.start(flows.chain, value=1))
        return time.perf_counter() - began

    def recorded_chain(self) -> float:
        """Seconds from the accepted start to the recorded end, both by the ledger's clock."""
        return self._recorded(self.client.start(flows.chain, value=1))

    def fan(self, count: int) -> float:
        """By the ledger's clock: `wait` looks too seldom to time a long run to the millisecond."""
        return self._recorded(self.client.start(flows.fan, count=count), _FAN_S)

    def _recorded(self, handle: Any, patience_s: float = _PATIENCE_S) -> float:
        succeeded(handle, patience_s)
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
            succeeded(handle)

    @property
    def pid(self) -> int:
        """Of the worker's main process."""
        return self._process.pid

    def cpu(self) -> Cpu:
        return cpu.read(self._process.pid, self._servers)

    def restart(self) -> None:
        raise BenchFailed("Runs of ours did not end in time. Fix: measure on a machine that has less to do.")

    def close(self) -> None:
        self.client.close()
        self._process.stop()


def worker(
    settings: Settings,
    folder: Path,
    name: str,
    queue: str = "default",
    processes: int = 1,
    flows: str = "benchmarks.flows",
    **env: str,
) -> Process:
    """A worker of ours, started by its command. At log level WARNING, as Celery's own default is."""
    urls = {
        "ORCHESTRATOR_DATABASE_URL": settings.require_database_url(),
        "ORCHESTRATOR_BROKER_URL": settings.require_broker_url(),
    }
    command = ["-m", "orchestrator", "worker", "--pool", "prefork", "--concurrency", str(CONCURRENCY)]
    command += ["--flows", flows, "--queues", queue, "--log-level", "WARNING"]
    command += ["--processes", str(processes)] if processes > 1 else []
    return Process(name, command, {**urls, **env}, folder)


def succeeded(handle: Any, patience_s: float = _PATIENCE_S) -> None:
    try:
        status = handle.wait(patience_s)
    except WaitTimeout as exc:
        raise TimeoutError(str(exc)) from exc
    if status is not RunStatus.SUCCEEDED:
        raise BenchFailed(f"A run ended {status}.")


def _get(result: Any) -> Any:
    try:
        return result.get(timeout=_PATIENCE_S)
    except CeleryTimeout as exc:
        raise TimeoutError(f"a chain of Celery's did not end within {_PATIENCE_S:.0f} s") from exc


def _deaf(app: Any) -> Any:
    """The app without subscriptions to results: nobody asks for those of a header one by one, and with 10,000 of them
    the client takes a minute longer than the chord."""
    app.backend.on_task_call = lambda *_: None
    app.backend.remove_pending_result = lambda result: result
    return app


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
        self._app = bare_celery.make_app(self._url, self._ack_emulation)
        self._deaf = _deaf(bare_celery.make_app(self._url, self._ack_emulation))
        self._started: list[Any] = []  # kept, because a result that is dropped is a message to Valkey
        self._process = Process(self.name.replace(" ", "-").replace(",", ""), command, env, self._folder)
        self._process.wait_ready(lambda: bool(self._app.control.ping(timeout=0.5)))

    def restart(self) -> None:
        self._process.kill()
        self._started.clear()
        self._app.close()
        self._deaf.close()
        with redis.Redis.from_url(self._url) as client:
            client.flushdb()
        self._start()

    def _chain(self, value: int) -> Any:
        add_one = self._app.tasks["bare.add_one"]
        return celery_chain(add_one.s(value), *[add_one.s() for _ in range(CHAIN - 1)])

    def _started_at_once(self, count: int) -> list[Any]:
        """With what Celery 5.7 has for many: a batch of one round trip."""
        with self._app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=STARTS_AT_ONCE):
            return [self._chain(value).apply_async(producer=producer, retry=False) for value in range(count)]

    def chains(self, count: int) -> None:
        for result in self._started_at_once(count):
            _get(result)

    def plain(self, count: int) -> None:
        one_by_one(count, lambda value: self._chain(value).apply_async(), _get)

    def chain(self) -> float:
        began = time.perf_counter()
        _get(self._chain(1).apply_async())
        return time.perf_counter() - began

    def fan(self, count: int) -> float:
        done = f"done:{uuid.uuid4().hex}"
        add_one, total = (self._deaf.tasks[name] for name in ("bare.add_one", "bare.total"))
        began = time.perf_counter()
        celery_chord([add_one.s(value) for value in range(count)], total.s(done)).apply_async()
        with redis.Redis.from_url(self._url, socket_timeout=_FAN_S + 10) as client:
            connection: Any = client
            if connection.blpop(done, timeout=_FAN_S) is None:
                raise TimeoutError(f"a chord of {count:,} did not end within {_FAN_S:.0f} s")
        return time.perf_counter() - began

    def start_each(self, count: int) -> None:
        self._started += [self._chain(value).apply_async() for value in range(count)]

    def start_many(self, count: int) -> None:
        self._started += self._started_at_once(count)

    def pause(self) -> None:
        self._process.pause()

    def go_on(self) -> None:
        self.restart()

    def cpu(self) -> Cpu:
        return cpu.read(self._process.pid, {"valkey": self._valkey})

    def close(self) -> None:
        self._process.stop()
        self._started.clear()
        self._app.close()
        self._deaf.close()
