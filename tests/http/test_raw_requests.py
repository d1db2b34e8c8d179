"""What only the server sees: bytes that are no request, or two, or half of one."""

import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx2
import pytest

from orchestrator.client import Client
from orchestrator.http import connections
from orchestrator.http.app import create_app
from orchestrator.http.edge import Limits
from orchestrator.settings import Settings
from tests.http.access import UNLIMITED
from tests.support.listening import serving
from tests.support.row_counts import Counted, counted
from tests.support.worker_process import env_of

__all__ = ["counted"]


@pytest.fixture
def url(settings: Settings, stack: Client) -> Iterator[str]:
    """A process of its own."""
    env = env_of(settings.model_copy(update={**UNLIMITED, "auth": "open"}))
    command = [sys.executable, "-m", "orchestrator", "api", "--port", "0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1].removesuffix("/api")
        finally:
            process.kill()


def opened(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def told(url: str, sent: bytes, *, half_closed: bool = True) -> list[int]:
    """The statuses of all answers to these bytes."""
    with closing(opened(url)) as connection:
        with contextlib.suppress(OSError):  # it may have been closed before all was sent
            connection.sendall(sent)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                found += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", found)]


HEAD = b"Host: 127.0.0.1\r\n"
START = b"POST /api/flows/hello/trigger HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
SMUGGLED = b"DELETE /api/flows/hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
NO_REQUESTS = [
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET\r\n\r\n",
    b"GET /api/runs HTTP/9.9\r\n" + HEAD + b"\r\n",
    b"G\x00T /api/runs HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"GET /api/runs HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
    b"GET /api/runs HTTP/1.1\r\n" + HEAD + b"X : a\r\n\r\n",
    b"GET /api/ru ns HTTP/1.1\r\n" + HEAD + b"\r\n",
    START + b"Content-Length: -1\r\n\r\n{}",
    START + b"Content-Length: 1e3\r\n\r\n{}",
    START + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    START + b"Content-Length: 4\r\nContent-Length: 40\r\n\r\n{}  " + SMUGGLED,
    START + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    START + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    CHUNKED + b"ZZ\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}",
    START + b"Content-Length: 400\r\n\r\n{}",
    START + b"Content-Length: 4000000\r\n\r\n{}",
    b"GET /api/runs HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 200_000,
    b"GET /api/runs?" + b"a" * 200_000,
    b"GET /api/runs HTTP/1.1\r\n" + HEAD + b"X: a\r\n" * 30_000 + b"\r\n",
    b"",
]


def test_what_is_no_request_is_refused_and_nothing_after_it_is_read(url: str, stack: Client, counted: Counted) -> None:
    before = counted()
    for sent in NO_REQUESTS:
        statuses = told(url, sent)
        assert len(statuses) <= 1, (sent[:200], statuses)
        assert set(statuses) <= {400, 413, 415, 422, 431}, (sent[:200], statuses)
    assert httpx2.get(f"{url}/health/liveness").status_code == 200
    after = counted()
    assert {**after, "flow_events": before["flow_events"]} == before, "a start that is refused may be an event"


def test_what_the_parser_refuses_is_a_problem_too(url: str) -> None:
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(b"GET /api/runs?" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-content-type-options: nosniff" in head.lower()
    assert (json.loads(body)["code"], json.loads(body)["status"]) == ("malformed", 400)


def test_requests_in_a_row_are_answered_in_their_order(url: str, stack: Client) -> None:
    """A body that says how long it is does not end early, or late."""
    one = b"GET /health/liveness HTTP/1.1\r\n" + HEAD + b"\r\n"
    none = b"GET /api/none HTTP/1.1\r\n" + HEAD + b"\r\n"
    body = b'{"name": "GET /health/liveness HTTP/1.1\\r\\n"}'
    sent = START + b"Content-Length: %d\r\n\r\n" % len(body) + body
    last = none.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert told(url, one + sent + none + one + last, half_closed=False) == [200, 201, 404, 200, 404]
    assert stack.count_runs(flow="hello") == 1


def test_half_requests_hold_up_nobody_and_end(
    settings: Settings, stack: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head, a body and a second head that do not come are given up; others are answered meanwhile."""
    monkeypatch.setattr(connections, "HEAD_S", 1.0)
    app = create_app(settings.model_copy(update={"auth": "open"}), Limits(body_s=1.0))
    alive = b"GET /health/liveness HTTP/1.1\r\n" + HEAD + b"\r\n"
    with serving(app) as url, contextlib.ExitStack() as stack_:
        slow = []
        for sent in (
            b"G",
            b"GET /api/runs HTTP/1.1\r\nX: a",
            alive + b"GET /api",
            START + b"Content-Length: 9\r\n\r\n{",
        ):
            for _ in range(50):
                connection = stack_.enter_context(closing(opened(url)))
                connection.sendall(sent)
                slow.append(connection)
        assert httpx2.get(f"{url}/health/liveness").status_code == 200
        ends = [_all(connection) for connection in slow]
    assert all(b"HTTP/1.1 408 " in end and b"connection: close" in end.lower() for end in ends)
    assert stack.count_runs(flow="hello") == 0


def _all(connection: socket.socket) -> bytes:
    found = b""
    while part := connection.recv(65536):
        found += part
    return found
