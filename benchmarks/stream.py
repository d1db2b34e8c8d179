"""How long after its commit an event of the stream is with its reader, over HTTP, with and without Redis."""

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import httpx2
import uvicorn
from pydantic import SecretStr

from benchmarks import waiting_flows
from benchmarks.alone import Ground
from benchmarks.figures import number
from benchmarks.processes import BenchFailed
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator import Client, Settings
from orchestrator.http.app import create_app
from orchestrator.ledger import migrate

_BROKER: Final = 14
_RUNS: Final = 100
_PATIENCE_S: Final = 30.0


def stream(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """One reader, while a client starts runs and cancels them. The end of a run is hinted, its start is not."""
    url = ground.database("stream")
    migrate.upgrade(url)
    writer = Settings(database_url=SecretStr(url), broker_url=SecretStr(ground.broker(_BROKER)))
    notes = []
    for name, changes in (("with Redis", {}), ("without Redis", {"broker_url": None})):
        with _Reader.of(writer.model_copy(update={"auth": "open", **changes})) as reader, Client(writer) as client:
            starts, ends = _written(client, reader, min(_RUNS, sizes.waits))
        notes.append(f"{name}: ends of runs {_lags(ends)}; starts {_lags(starts)}")
    for note in notes:
        say(f"stream: {note}")
    return Result("stream of events, from commit to reader", notes=notes)


def _written(client: Client, reader: "_Reader", runs: int) -> tuple[list[float], list[float]]:
    """Lags in milliseconds. A client is told of a commit about when the reader may be: those before count as none."""
    dice, starts, ends = random.Random(1), [], []
    for n in range(runs):
        time.sleep(dice.random() * 0.3)
        run = client.start(waiting_flows.paid, order=f"o-{n}")
        started = time.monotonic()
        starts.append(reader.came(f"{run.id} run.accepted") - started)
        run.cancel("measured", by="benchmark")
        ended = time.monotonic()
        ends.append(reader.came(f"{run.id} run.cancelled") - ended)
    return [max(0.0, lag) * 1000 for lag in starts], [max(0.0, lag) * 1000 for lag in ends]


def _lags(found: Sequence[float]) -> str:
    lags = sorted(found)
    return f"p50 {number(lags[len(lags) // 2])} ms, **p99 {number(lags[int(len(lags) * 0.99)])} ms**"


class _Reader:
    """Notes when each event came."""

    def __init__(self) -> None:
        self._came: dict[str, float] = {}
        self._news = threading.Condition()

    def came(self, what: str) -> float:
        """When; on the monotonic clock."""
        with self._news:
            if not self._news.wait_for(lambda: what in self._came, _PATIENCE_S):
                raise BenchFailed(f"The stream did not tell {what}.")
            return self._came[what]

    @classmethod
    @contextmanager
    def of(cls, settings: Settings) -> Iterator["_Reader"]:
        """Reads from a server of its own, in this process."""
        app, reader = create_app(settings), cls()
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
        serving = threading.Thread(target=server.run)
        serving.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reading = threading.Thread(target=reader._read, args=(f"http://127.0.0.1:{port}/api/events/stream",))
        reading.start()
        try:
            reader.came("open")
            yield reader
        finally:
            app.state.stopping.end()
            server.should_exit = True
            reading.join()
            serving.join()

    def _read(self, url: str) -> None:
        with httpx2.stream("GET", url, timeout=None) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self._note(json.loads(line.removeprefix("data: ")))

    def _note(self, data: dict[str, str]) -> None:
        now = time.monotonic()
        with self._news:
            self._came[f"{data['run_id']} {data['type']}" if data else "open"] = now
            self._news.notify_all()
