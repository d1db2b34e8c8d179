"""What is needed to take servers away for long: a client that goes on starting runs, and a watch over the workers."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic, time
from typing import Any, Final
from uuid import UUID

import psutil
import redis
from pydantic import SecretStr

from orchestrator.client import Client
from orchestrator.errors import Unavailable
from orchestrator.ledger import migrate
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.faults.arena import WIDTH, Arena, arena
from tests.support import databases, servers
from tests.support.nursery import Forked, Nursery
from tests.support.proxy import Proxy
from tests.support.servers import Broker, Server

TIMES: Final = (
    "lease",
    "heartbeat",
    "sweep_interval",
    "redispatch_after",
    "cancel_grace",
    "worker_ttl",
    "prefetch_multiplier",
)
DEFAULTS: Final = {name: Settings.model_fields[name].default for name in TIMES}
QUICK: Final[dict[str, Any]] = {
    **DEFAULTS,
    "lease": timedelta(seconds=4.5),
    "heartbeat": timedelta(seconds=1.5),
    "sweep_interval": timedelta(seconds=1),
    "redispatch_after": timedelta(seconds=3),
    "worker_ttl": timedelta(seconds=6),
}
"""A lease that ends twice within a short outage, as the default does within a long one."""
THREADS: Final = 10
CHILDREN: Final = 2


class Feeder(threading.Thread):
    """A client that starts a run every so often. What is refused is asked again, under the same idempotency key."""

    def __init__(self, settings: Settings, every_s: float) -> None:
        super().__init__(name="feeder", daemon=True)
        self._client = Client(settings)
        self._every_s = every_s
        self._over = threading.Event()
        self.accepted: list[tuple[float, UUID]] = []
        self.refused: list[tuple[float, str]] = []
        self.slowest_s = 0.0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(self._every_s):
                self._start()
        except BaseException as exc:  # shown by the test
            self.error = exc
        finally:
            self._client.close()

    def _start(self) -> None:
        began = monotonic()
        try:
            handle = self._client.start(
                "mix", {"width": WIDTH, "plan": {}}, idempotency_key=f"run {len(self.accepted)}"
            )
            self.accepted.append((monotonic(), handle.id))
        except Unavailable as exc:
            self.refused.append((monotonic(), str(exc)))
        self.slowest_s = max(self.slowest_s, monotonic() - began)

    def stop(self) -> list[UUID]:
        """The runs that were accepted."""
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error
        return [run_id for _, run_id in self.accepted]


def epoch(at: float) -> float:
    """Seconds since the epoch, of a moment of the monotonic clock: logs and tests use different ones."""
    return at - monotonic() + time()


@dataclass(frozen=True)
class Sample:
    """A worker with all its processes, at one moment."""

    at: float
    lines: int
    cpu_s: float
    memory_mb: float
    """Shared pages are shared out among those who share them."""
    files: int


@dataclass(frozen=True)
class Watched:
    """A worker behind two proxies of its own, so that its connections are its own too."""

    name: str
    worker: Forked
    postgres: Proxy
    valkey: Proxy
    pids: tuple[int, ...]
    slots: int
    port: int
    """Where it answers probes."""

    def sample(self) -> Sample:
        cpu_s = memory = 0.0
        files = 0
        for pid in self.pids:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s += times.user + times.system
            info = process.memory_full_info()
            memory += getattr(info, "pss", info.uss)
            files += process.num_fds()
        return Sample(monotonic(), len(self.lines()), cpu_s, memory / 2**20, files)

    def lines(self) -> list[str]:
        return self.worker.log().splitlines()

    def connects(self, since: float, until: float, *, served: bool | None = None) -> tuple[int, int]:
        """Attempts at PostgreSQL and at Valkey."""
        first, second = (
            sum(since <= one.at < until and served in (None, one.served) for one in list(proxy.attempts))
            for proxy in (self.postgres, self.valkey)
        )
        return first, second

    def peak(self, since: float, until: float) -> int:
        """The most new connections to both servers within a second."""
        attempts = (one for proxy in (self.postgres, self.valkey) for one in list(proxy.attempts))
        times = [one.at for one in attempts if one.served and since <= one.at < until]
        return max((sum(at <= other < at + 1 for other in times) for at in times), default=0)

    def recovered(self) -> list[float]:
        """When loops of the keeper said that they work again, in seconds since the epoch."""
        stamps = [line[:23] for line in self.lines() if " keeper.recovered " in line]
        return [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() for stamp in stamps]

    def failing_loops(self) -> set[str]:
        """Loops of the keeper that said they fail and have not yet said that they work again."""
        found: set[str] = set()
        for line in self.lines():
            words = line.split()
            loop = next((word for word in words if word.startswith("loop=keeper-")), None)
            if loop is not None and "keeper.failing" in words:
                found.add(loop)
            elif loop is not None and "keeper.recovered" in words:
                found.discard(loop)
        return found

    def processes(self) -> tuple[int, ...]:
        """Those that live now, in the order of `pids`."""
        return (self.worker.pid, *sorted(self.worker.children())) if self.worker.alive else ()


@dataclass(frozen=True)
class Totals:
    """Of both servers and the effects log, at one moment."""

    at: float
    transactions: int
    ends: int
    messages: int

    def rate(self, later: "Totals") -> tuple[float, float]:
        """Transactions and ended steps per second, until then."""
        passed_s = later.at - self.at
        return (later.transactions - self.transactions) / passed_s, (later.ends - self.ends) / passed_s


@dataclass
class Field:
    """An arena on servers that may be stopped, two workers, and a direct line to both servers."""

    arena: Arena
    server: Server
    broker: Broker
    workers: list[Watched] = field(default_factory=list)

    def watch(self, name: str, slots: int, stack: ExitStack) -> None:
        """Start a worker of that pool."""
        settings = self.arena.settings
        postgres, valkey = Proxy(settings.require_database_url()), Proxy(settings.require_broker_url())
        stack.callback(postgres.close)
        stack.callback(valkey.close)
        own = {
            "database_url": SecretStr(postgres.url),
            "broker_url": SecretStr(valkey.url),
            "health_address": f"127.0.0.1:{(port := free_port())}",
        }
        worker = self.arena.worker(settings=settings.model_copy(update=own), concurrency=slots, pool=name)
        pids = (worker.pid, *sorted(worker.children()))
        self.workers.append(Watched(name, worker, postgres, valkey, pids, slots, port))

    def totals(self) -> Totals:
        """Counted since the servers started."""
        name = self.arena.plain_url.rpartition("/")[2]
        (row,) = self.arena.rows(
            "SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = %s", name
        )
        return Totals(monotonic(), int(row["n"]), self.ends(), self.messages())

    def messages(self) -> int:
        """Messages for steps that Valkey took. A probe is pushed too, and only a probe is given a time to live."""
        with redis.Redis.from_url(self.broker.url) as client:
            stats = client.info("commandstats")
        pushed, probes = (stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("lpush", "pexpire"))
        return int(pushed) - int(probes)

    def count(self, what: str) -> int:
        """Rows of `what`, a table and perhaps a condition."""
        (row,) = self.arena.rows(f"SELECT count(*) AS n FROM {what}")
        return int(row["n"])

    def ends(self) -> int:
        """Executions of steps that came to their end."""
        return sum(line.kind == "end" for line in self.arena.lines())


def field_of(stack: ExitStack, short: Path, folder: Path, nursery: Nursery, settings: dict[str, Any]) -> Field:
    """Servers of its own, and a worker of either pool."""
    server = stack.enter_context(servers.postgres(short / "pg"))
    broker = stack.enter_context(servers.broker(short / "valkey"))
    template = stack.enter_context(databases.created(server))
    migrate.upgrade(server.url_of(template))
    made = Field(stack.enter_context(arena(server, template, broker.url, folder, nursery, **settings)), server, broker)
    made.watch("prefork", CHILDREN, stack)
    made.watch("threads", THREADS, stack)
    return made


def table(rows: Sequence[Sequence[object]]) -> str:
    """A table as Markdown has it; the first row is its head."""
    texts = [[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[place]) for row in texts) for place in range(len(texts[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in texts]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:])).replace(f"| {rule} |", f"|-{rule}-|")
