"""Processes of the API: each at a port of its own, which whoever follows it has, too."""

import random
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from orchestrator.settings import Settings
from tests.support.eventually import eventually
from tests.support.nursery import Forked, Nursery
from tests.support.worker_process import env_of

_PORTS: Final = range(20_000, 32_000)
"""The system gives none of these to whoever asks for any: nobody takes the place of one that was killed."""
_ADDRESS: Final = "127.0.0.1"


def main(options: Mapping[str, Any]) -> None:
    """What the process runs: the command, as the newest release of a soak has it."""
    from orchestrator.cli import main as command
    from tests.soak import mutants, releases

    if releases.here() == "newer":
        releases.read_newer(pytest.MonkeyPatch())
    if options["mutant"]:
        mutants.apply(options["mutant"])
    sys.argv = ["orchestrator", "api", "--address", _ADDRESS, "--port", str(options["port"])]
    command()


def free_port(rng: random.Random) -> int:
    """One at which nobody listens."""
    for port in rng.sample(_PORTS, k=200):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((_ADDRESS, port))
            except OSError:
                continue
            return port
    raise AssertionError("200 ports are taken")


def url_of(port: int) -> str:
    return f"http://{_ADDRESS}:{port}"


class Api(Forked):
    """`orchestrator api`, out of a nursery."""

    entry = "tests.edge.doors:main"

    def __init__(
        self,
        nursery: Nursery,
        settings: Settings,
        folder: Path,
        port: int,
        *,
        name: str,
        env: Mapping[str, str],
        mutant: str | None = None,
    ) -> None:
        super().__init__(nursery, settings, "", folder, name=name, env=env)
        self._options = {"port": port, "mutant": mutant}
        self._env = env_of(settings, **env)

    def start(self, *, ready: bool = True) -> "Api":
        self.begin(self._options)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Until it listens and has made what it serves."""
        eventually(self._listens, timeout=timeout, message=f"the API is ready\n{self.tail()}")

    def _listens(self) -> bool:
        if not self.alive:
            raise RuntimeError(f"The API ended:\n{self.tail()}")
        with socket.socket() as tried:
            tried.settimeout(1.0)
            return tried.connect_ex((_ADDRESS, int(str(self._options["port"])))) == 0
