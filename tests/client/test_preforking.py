"""A server that loads an application once and forks its workers from it: the client was made, and used, before."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.settings import Settings
from tests.client.test_forks import Published, published
from tests.support.eventually import eventually
from tests.support.worker_process import env_of

__all__ = ["published"]

APPLICATION = """
import json, os
from orchestrator import Client
from tests.client.test_forks import forked

client = Client.from_env()
client.start(forked, tags=["server"])  # before the fork: the client has its connections, its thread and its locks

def app(environ, start_response):
    run = client.start(forked, tags=["server"])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "status": run.status().value}).encode()]
"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a socket in a folder: no port that a neighbour may take."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: that of a socket has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="web-") as name:
        yield Path(name)


def test_gunicorn_with_preload(settings: Settings, published: Published, folder: Path) -> None:
    pytest.importorskip("gunicorn")
    (folder / "web.py").write_text(APPLICATION)
    where = folder / "web.sock"
    arguments = ["--preload", "--workers", "2", "--bind", f"unix:{where}", "--worker-tmp-dir", str(folder), "web:app"]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *arguments],
        cwd=folder,
        env=env_of(settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def ask() -> int:
            connection = UnixConnection(where)
            connection.request("GET", "/")
            answer = json.loads(connection.getresponse().read())
            connection.close()
            assert answer["status"] == "pending"
            return int(answer["pid"])

        eventually(where.exists, message="it listens")
        eventually(lambda: len(psutil.Process(server.pid).children()) >= 2, message="it has its workers")
        answered = [ask() for _ in range(20)]
        assert server.pid not in answered
        eventually(lambda: published("server") == (21, 21), message="all are sent while it runs")
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
        assert server.returncode == 0, said
        assert "Traceback" not in said
        assert published("server") == (21, 21)
    finally:
        server.kill()
        server.communicate()
