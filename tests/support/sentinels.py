"""Valkey as production has it: a primary, a replica, and Sentinels that make the replica the primary."""

import contextlib
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from orchestrator.errors import EmbeddedMissing
from orchestrator.servers.embedded import binaries, process
from orchestrator.servers.embedded.process import Identity, Launch
from orchestrator.servers.embedded.server import HOST, free_port
from tests.support.eventually import eventually

NAME: Final = "main"
PASSWORD: Final = "geheim-data"
SENTINEL_PASSWORD: Final = "geheim-watch"
_DOWN_AFTER_MS: Final = 700
_KILL: Final = [(signal.SIGKILL, 10.0)]


class Node:
    """One Valkey process, a server or a Sentinel. It may be killed and started again, on its port."""

    def __init__(self, folder: Path, password: str, settings: dict[str, object], *, sentinel: bool = False) -> None:
        self.port = free_port()
        self._folder = folder
        self._password = password
        self._arguments = ["--sentinel"] if sentinel else []
        folder.mkdir()
        self._config = folder / "valkey.conf"
        common = {"bind": HOST, "port": self.port, "dir": folder, "requirepass": password, "set-proc-title": "no"}
        self._config.write_text("".join(f"{name} {value}\n" for name, value in {**common, **settings}.items()))
        self.identity: Identity | None = None

    def start(self) -> None:
        program = str(binaries.valkey())
        command = [program, str(self._config), *self._arguments]
        with (self._folder / "server.log").open("ab") as log:
            child = process.start(Launch(program=command, folder=self._folder, death_signal=signal.SIGKILL), log)
        self.identity = Identity.of(child.pid)
        eventually(self._answers, message=f"the Valkey of {self._folder} answers")
        self._child = child

    def kill(self) -> None:
        """SIGKILL."""
        if self.identity is not None:
            process.stop(self.identity, _KILL)
            self._child.wait()
            self.identity = None

    @contextlib.contextmanager
    def client(self) -> "Iterator[redis.Redis]":
        with redis.Redis(HOST, self.port, password=self._password, socket_timeout=5, decode_responses=True) as made:
            yield made

    def ask(self, *command: object) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False


class Watched:
    """Two servers, of which one is the primary, and the Sentinels."""

    def __init__(self, folder: Path, sentinels: int) -> None:
        common = {"save": '""', "appendonly": "no", "masterauth": PASSWORD, "repl-diskless-sync-delay": 0}
        first = Node(folder / "first", PASSWORD, common)
        second = Node(folder / "second", PASSWORD, {**common, "replicaof": f"{HOST} {first.port}"})
        self.servers = {node.port: node for node in (first, second)}
        self._first, self._second = first, second
        self.sentinels = [
            Node(folder / f"sentinel{n}", SENTINEL_PASSWORD, self._watch(sentinels // 2 + 1), sentinel=True)
            for n in range(sentinels)
        ]

    def _watch(self, quorum: int) -> dict[str, object]:
        return {
            "sentinel monitor": f"{NAME} {HOST} {self._first.port} {quorum}",
            "sentinel auth-pass": f"{NAME} {PASSWORD}",
            "sentinel down-after-milliseconds": f"{NAME} {_DOWN_AFTER_MS}",
            "sentinel failover-timeout": f"{NAME} 5000",
            "sentinel sentinel-pass": SENTINEL_PASSWORD,
        }

    def start(self) -> None:
        """Every Sentinel knows the replica, and the others, when this returns."""
        for node in (self._first, self._second):
            node.start()
        eventually(lambda: self._second.ask("INFO")["master_link_status"] == "up", message="it replicates")
        for node in self.sentinels:
            node.start()
            # Otherwise it looks at the servers every ten seconds, and rests for thirty after it was kept waiting.
            periods = {"info-period": 200, "publish-period": 200, "ping-period": 200, "tilt-period": 1000}
            node.ask("SENTINEL", "DEBUG", *(word for pair in periods.items() for word in pair))
        self.settle()

    def settle(self) -> None:
        """Wait until every Sentinel knows the others, a primary and a replica that keeps up."""
        for node in self.sentinels:
            eventually(lambda node=node: self._knows_all(node), timeout=30, message="the Sentinels know all")  # type: ignore[misc]

    def _knows_all(self, node: Node) -> bool:
        primary = node.ask("SENTINEL", "MASTER", NAME)
        replicas = node.ask("SENTINEL", "REPLICAS", NAME)
        return (
            (primary["flags"], int(primary["num-other-sentinels"])) == ("master", len(self.sentinels) - 1)
            and [one["flags"] for one in replicas] == ["slave"]
            and replicas[0]["master-link-status"] == "ok"
        )

    def close(self) -> None:
        for node in (*self.sentinels, *self.servers.values()):
            node.kill()

    @property
    def primary(self) -> Node:
        """As the Sentinels see it."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return self.servers[int(port)]

    def hand_over(self, old: Node) -> Node:
        """Make the replica the primary while the old one lives; the new one.

        Asked again until it is so: a Sentinel drops the order without a word when its last look at the replica is old.
        """

        def ordered() -> Node | None:
            with contextlib.suppress(redis.ResponseError):  # it is at it, or sees no replica just now
                self.sentinels[0].ask("SENTINEL", "FAILOVER", NAME)
            with contextlib.suppress(AssertionError):
                return self.wait_for_other(old, timeout=5)
            return None

        return eventually(ordered, timeout=60, message="the replica is ordered to be the primary") or old

    def wait_for_other(self, old: Node, *, timeout: float = 30) -> Node:
        """The new primary, when every Sentinel has it and it takes writes."""

        def others() -> Node | None:
            ports = {int(node.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1]) for node in self.sentinels}
            if ports & {old.port} or len(ports) != 1:
                return None
            found = self.servers[ports.pop()]
            return found if found.ask("ROLE")[0] == "master" else None

        return eventually(others, timeout=timeout, message="a replica becomes the primary") or old

    @property
    def url(self) -> str:
        """The first Sentinel named is never there; what it says about the password holds for all."""
        first, *rest = [free_port(), *(node.port for node in self.sentinels)]
        return ";".join([f"sentinel://:{PASSWORD}@{HOST}:{first}/0", *(f"sentinel://{HOST}:{port}" for port in rest)])

    @property
    def options(self) -> dict[str, object]:
        """For ORCHESTRATOR_BROKER_TRANSPORT_OPTIONS."""
        return {"master_name": NAME, "sentinel_kwargs": {"password": SENTINEL_PASSWORD}}


@contextlib.contextmanager
def watched(folder: Path, sentinels: int = 3) -> Iterator[Watched]:
    """Running while the block does."""
    try:
        binaries.valkey()
    except EmbeddedMissing as exc:
        pytest.skip(str(exc))
    with ExitStack() as stack:
        made = Watched(folder, sentinels)
        stack.callback(made.close)
        made.start()
        yield made
