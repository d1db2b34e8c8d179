"""The HTTP API as its users meet it: one `orchestrator api` with every default but the rates, a key, a broker. Starts
beside a bare route that does one INSERT; reads with a long history; reads while others wait; memory over a long time.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from pydantic import SecretStr

from benchmarks import cpu, flows, waiting_flows
from benchmarks.alone import Ground
from benchmarks.asker import Connection, Request, together
from benchmarks.cpu import Cpu
from benchmarks.figures import number, percentile
from benchmarks.fill import fill
from benchmarks.processes import Process
from benchmarks.report import Result
from benchmarks.workloads import Samples, Say, Sizes
from orchestrator import Client, Settings
from orchestrator.core.access import Actor, Grant, Role
from orchestrator.engine.access import keys
from orchestrator.engine.flows import register
from orchestrator.ledger import migrate
from orchestrator.servers.embedded.server import HOST, free_port

_BROKER: Final = 13
_OURS: Final = "orchestrator api"
_BARE: Final = "bare FastAPI"
_CONNECTIONS: Final = 8
_WAITERS: Final = 40
_STARTED: Final = 50
_PARTS: Final = 10
_REST_S: Final = 0.3
"""After a round, so that what is written lazily is charged to the round that caused it."""
_RATES: Final = ("reads", "writes", "triggers", "strangers")
_FREE: Final = {f"ORCHESTRATOR_RATE_{name.upper()}": "0" for name in _RATES}


class _Served:
    """One process that serves, and connections to it."""

    def __init__(self, process: Process, url: str, key: str, servers: Mapping[str, int]) -> None:
        self.process, self.url, self._key = process, url, key
        self._servers = servers

    @contextmanager
    def connections(self, count: int = _CONNECTIONS) -> Iterator[list[Connection]]:
        """New ones: a server closes those that are idle."""
        made = [Connection(self.url, self._key) for _ in range(count)]
        yield made
        for connection in made:
            connection.close()

    def cpu(self) -> Cpu:
        """`worker` is the process that serves."""
        return cpu.read(self.process.pid, self._servers)

    def close(self) -> None:
        self.process.stop()


@contextmanager
def _api(ground: Ground, database_url: str, broker: int = _BROKER) -> Iterator[_Served]:
    """`orchestrator api` over that ledger; the flows of benchmarks are registered there."""
    migrate.upgrade(database_url)
    broker_url = ground.broker(broker)
    settings = Settings(database_url=SecretStr(database_url), broker_url=SecretStr(broker_url))
    with Client(settings) as client:
        for flow in (flows.chain, waiting_flows.paid):
            register.register(client.ledger, flow.manifest)
        key = keys.create(client.ledger, f"bench-{time.time_ns()}", Grant(Role.ADMIN), Actor("benchmark")).text
    env = {"ORCHESTRATOR_DATABASE_URL": database_url, "ORCHESTRATOR_BROKER_URL": broker_url, **_FREE}
    port = free_port()
    program = ["-m", "orchestrator", "api", "--port", str(port)]
    with _serving(ground, f"api-{port}", program, env, f"http://{HOST}:{port}", "/health/liveness", key) as served:
        yield served


@contextmanager
def _bare(ground: Ground, database_url: str) -> Iterator[_Served]:
    port = free_port()
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    program = ["-m", "uvicorn", "benchmarks.bare_api:app", "--port", str(port)]
    env = {"BENCH_DATABASE_URL": url}
    with _serving(ground, "bare-api", program, env, f"http://{HOST}:{port}", "/openapi.json", "secret") as served:
        yield served


@contextmanager
def _serving(
    ground: Ground, name: str, program: Sequence[str], env: Mapping[str, str], url: str, alive: str, key: str
) -> Iterator[_Served]:
    process = Process(name, program, env, ground.folder)
    process.wait_ready(lambda: _answers(url + alive))
    served = _Served(process, url, key, ground.pids)
    try:
        yield served
    finally:
        served.close()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


class _Starts:
    """A contender: a request that leaves one thing in the database."""

    def __init__(self, name: str, served: _Served, path: str, body: Mapping[str, object]) -> None:
        self.name, self.served = name, served
        self._request = Request(path, "POST", json.dumps(body).encode(), status=201)

    def ask(self, count: int) -> float:
        """Seconds."""
        with self.served.connections() as connections:
            return together(connections, count, lambda _: self._request)

    def alone(self, count: int) -> list[float]:
        """Milliseconds of each, sorted."""
        with self.served.connections(1) as (connection,):
            return sorted(connection.timed(self._request) for _ in range(count))

    def restart(self) -> None:
        """Nothing is under way between requests."""


def triggers(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Starts over HTTP beside one INSERT over HTTP."""
    with ExitStack() as stack:
        ours = stack.enter_context(_api(ground, ground.database("edge")))
        bare = stack.enter_context(_bare(ground, ground.database("bare_edge")))
        contenders = [
            _Starts(_OURS, ours, "/api/flows/chain/trigger", {"value": 1}),
            _Starts(_BARE, bare, "/orders", {"value": 1}),
        ]
        for one in contenders:
            one.ask(min(_STARTED, sizes.triggers))  # connections, caches
        samples = Samples("trigger", contenders, say)
        samples.rounds(sizes.rounds * 2, lambda one: _triggered(one, sizes))
    result = samples.result("A start over HTTP beside an INSERT over HTTP")
    result.names = (_OURS, _BARE)
    return result


def _triggered(one: _Starts, sizes: Sizes) -> dict[str, float]:
    alone = one.alone(sizes.latencies)
    before = one.served.cpu()
    took = one.ask(sizes.triggers)
    time.sleep(_REST_S)
    spent = (one.served.cpu() - before).ms_per(sizes.triggers)
    return {
        "p50, one at a time, ms": percentile(alone, 0.5),
        f"requests/s over {_CONNECTIONS} connections": sizes.triggers / took,
        "CPU, API process, ms per request": spent["worker"],
        "CPU, PostgreSQL, ms per request": spent["postgres"],
        "CPU, API process and PostgreSQL, ms per request": spent["worker"] + spent["postgres"],
    }


def lists(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """How long reads take, as their caller sees it, with a year of runs in the ledger."""
    url = ground.database("lists")
    fill(url, sizes.history, say=lambda text: say(f"lists: {text}"))
    notes = []
    with _api(ground, url) as served, served.connections(1) as (connection,):
        ids = _ids(connection)
        for what, make in _reads(ids).items():
            for n in range(5):
                connection.ask(make(n))  # plans, caches
            took = sorted(connection.timed(make(n)) for n in range(sizes.reads))
            notes.append(f"{what}: p50 {number(percentile(took, 0.5))} ms, **p95 {number(percentile(took, 0.95))} ms**")
            say(f"lists: {notes[-1]}")
    return Result(f"Reads over HTTP with {sizes.history:,} runs in the ledger", notes=notes)


def _ids(connection: Connection) -> list[str]:
    """Runs from several places of the history."""
    found: list[str] = []
    for since in ("30d", "20d", "10d", "1d"):
        page = json.loads(connection.ask(Request(f"/api/runs?limit=100&q=age%3C{since}")))
        found += [item["id"] for item in page["items"]]
    return found


def _reads(ids: Sequence[str]) -> dict[str, Callable[[int], Request]]:
    """What is asked; `n` is the number of the request."""
    dice = random.Random(1)
    mixed = [dice.choice(ids) for _ in range(1000)]
    queries = {
        "list, newest 50": "/api/runs",
        "list, 500": "/api/runs?limit=500",
        "list, failed": "/api/runs?status=failed",
        "list, one flow, succeeded": "/api/runs?flow=chain&status=succeeded",
        "list, a tag": "/api/runs?tag=filled",
        "list, a tag that is nowhere": "/api/runs?tag=nowhere",
        "list, of ten days ago": "/api/runs?q=age%3E10d%20status%3Afailed",
        "list, an error": "/api/runs?q=error%3AValueError",
        "counted": "/api/runs?count=1",
        "counted, failed": "/api/runs?count=1&status=failed",
        "active": "/api/runs/active",
        "errors": "/api/runs/errors",
        "flows": "/api/flows",
    }
    return {
        "one run": lambda n: Request(f"/api/runs/{mixed[n % 1000]}"),
        "steps of a run": lambda n: Request(f"/api/runs/{mixed[n % 1000]}/steps"),
        "events of a run": lambda n: Request(f"/api/runs/{mixed[n % 1000]}/events"),
        **{what: partial(_always, path) for what, path in queries.items()},
    }


def _always(path: str, _: int) -> Request:
    return Request(path)


def waiters(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """The same reads with nobody and with forty who wait for the end of a run; rounds are interleaved."""
    found: dict[str, list[float]] = {}
    with _api(ground, ground.database("waiters")) as served:
        with served.connections(1) as (connection,):
            runs = [_parked(connection, n) for n in range(_WAITERS)]
        for turn in range(sizes.rounds * 2):
            for what, waiting in (("nobody waits", []), (f"{_WAITERS} wait", runs)):
                with _waiting(served, waiting), served.connections(1) as (connection,):
                    found.setdefault(what, []).extend(connection.timed(Request(f"/api/runs/{run}")) for run in runs)
            say(f"waiters {turn + 1}/{sizes.rounds * 2}")
    notes = [
        f"one run read while {what}: p50 {number(percentile(sorted(took), 0.5))} ms, "
        f"**p95 {number(percentile(sorted(took), 0.95))} ms**"
        for what, took in found.items()
    ]
    for note in notes:
        say(f"waiters: {note}")
    return Result("Reads beside those who wait", notes=notes)


def _parked(connection: Connection, number_: int) -> str:
    """A run that waits for a signal; nobody works on it."""
    body = json.dumps({"order": f"o-{number_}"}).encode()
    made = json.loads(connection.ask(Request("/api/flows/paid/trigger", "POST", body, status=201)))
    return str(made["id"])


@contextmanager
def _waiting(served: _Served, runs: Sequence[str]) -> Iterator[None]:
    """One request for each, that waits until the block is over."""
    with served.connections(len(runs)) as connections:
        threads = [
            threading.Thread(target=_wait, args=(connection, run), daemon=True)
            for connection, run in zip(connections, runs, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5 if runs else 0)
        yield
        for thread in threads:
            thread.join()


def _wait(connection: Connection, run: str) -> None:
    connection.ask(Request(f"/api/runs/{run}?wait=3s"))


def api_memory(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """The resident memory of an API process over many requests of every kind."""
    with _api(ground, ground.database("api_memory")) as served, served.connections() as connections:
        memory = psutil.Process(served.process.pid)
        started = Request("/api/flows/chain/trigger", "POST", b'{"value": 1}', status=201)
        made = json.loads(connections[0].ask(started))["id"]
        kinds = [
            Request(f"/api/runs/{made}"),
            Request("/api/runs"),
            Request(f"/api/runs/{made}/events"),
            Request("/api/flows"),
            started,
            Request("/api/flows/chain/trigger", "POST", b'{"value": "x"}', status=422),
            Request("/api/runs/nobody", status=404),
            Request("/api/runs?nothing=1", status=400),
            Request("/health"),
        ]
        sizes_mb = []
        for _ in range(_PARTS):
            together(connections, sizes.requests // _PARTS, lambda n: kinds[n % len(kinds)])
            sizes_mb.append(memory.memory_info().rss / 2**20)
            say(f"api-memory: {number(sizes_mb[-1])} MB")
    growth = (sizes_mb[-1] - sizes_mb[1]) / (_PARTS - 2) * _PARTS
    note = (
        f"{', '.join(number(size) for size in sizes_mb)} MB after each tenth of {sizes.requests:,} requests: after the "
        f"first two tenths **{number(growth)} MB per {sizes.requests:,} requests**"
    )
    return Result("Memory of an API process", notes=[note])
