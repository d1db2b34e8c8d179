"""Probes while PostgreSQL and Redis are away, or are there and say nothing: a worker and a beat stay alive, and are not
ready until they are back."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from orchestrator.ledger import migrate
from orchestrator.servers.embedded.server import free_port
from orchestrator.settings import Settings
from tests.support import databases, servers
from tests.support.beat_process import ForkedBeat, beating
from tests.support.eventually import eventually
from tests.support.health import live, ready, until_ready
from tests.support.nursery import Forked, Nursery
from tests.support.servers import Broker, Server
from tests.support.worker_process import running
from tests.workers import flows_held

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LIMIT_S = 4.0
"""Of every loop."""
AWAY_S = 3 * LIMIT_S


@dataclass
class Probed:
    """What was answered, by port."""

    ports: dict[str, int]
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def probe_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, port in self.ports.items():
                said = live(port)
                self.statuses[name, said.status] += 1
                assert said.status == 200, said.body
                self.slowest_s = max(self.slowest_s, said.took_s)
            time.sleep(0.2)


@pytest.fixture
def own_servers(stack: ExitStack, short_folder: Path) -> tuple[Server, Broker]:
    """May be stopped, and their processes too."""
    pg = stack.enter_context(servers.postgres(short_folder / "postgres"))
    return pg, stack.enter_context(servers.broker(short_folder / "valkey"))


@pytest.fixture
def probed(
    stack: ExitStack, own_servers: tuple[Server, Broker], the_nursery: Nursery, tmp_path: Path
) -> Iterator[Probed]:
    pg, broker = own_servers
    url = pg.url_of(stack.enter_context(databases.created(pg)))
    migrate.upgrade(url)
    made = Probed({"worker": free_port(), "beat": free_port()})
    settings = Settings(
        database_url=SecretStr(url),
        broker_url=SecretStr(broker.url),
        hang_after=timedelta(seconds=LIMIT_S),
        statement_timeout=timedelta(seconds=LIMIT_S / 24),
        worker_ttl=timedelta(seconds=2),
        heartbeat=timedelta(seconds=0.5),
        sweep_interval=timedelta(seconds=0.5),
        broker_transport_options={"socket_timeout": LIMIT_S / 4},
    )

    def at(name: str) -> Settings:
        return settings.model_copy(update={"health_address": f"127.0.0.1:{made.ports[name]}"})

    flows = str(Path(flows_held.__file__))
    stack.enter_context(running(Forked(the_nursery, at("worker"), flows, tmp_path, concurrency=2)))
    stack.enter_context(beating(ForkedBeat(the_nursery, at("beat"), tmp_path)))
    for port in made.ports.values():
        until_ready(port)
    yield made
    print(f"{dict(made.statuses)}; slowest answer {1000 * made.slowest_s:.1f} ms")


def test_without_servers_they_are_alive_and_not_ready(probed: Probed, own_servers: tuple[Server, Broker]) -> None:
    pg, broker = own_servers
    assert pg.embedded is not None
    assert broker.embedded is not None
    pg.embedded.stop(immediate=True)
    broker.embedded.stop(immediate=True)
    try:
        probed.probe_for(AWAY_S)
        said = ready(probed.ports["worker"])
        assert (said.status, said.body["status"]) == (503, "not_ready")
        assert [name for name, part in said.body["parts"].items() if not part["ok"]] == ["ledger", "schema", "probe"]
        assert not ready(probed.ports["beat"]).body["parts"]["role"]["ok"]
    finally:
        pg.embedded.start()
        broker.embedded.start()
    for port in probed.ports.values():
        until_ready(port)


def test_servers_that_say_nothing_are_waited_for(probed: Probed, own_servers: tuple[Server, Broker]) -> None:
    """Their machines answer, so no connection is lost: a disk that hangs is like that."""
    pg, broker = own_servers
    assert pg.embedded is not None
    assert broker.embedded is not None
    with frozen(pg.embedded.pid), frozen(broker.embedded.pid):
        probed.probe_for(AWAY_S)
        eventually(lambda: ready(probed.ports["worker"]).status == 503)
    for port in probed.ports.values():
        until_ready(port)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Paused with its children."""
    top = psutil.Process(pid)
    group = [top, *top.children(recursive=True)]
    for one in group:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in reversed(group):
            one.send_signal(signal.SIGCONT)
