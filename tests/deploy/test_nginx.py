"""The configuration of nginx, in a real one, in front of two servers that say what reaches them."""

import http.client
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from orchestrator.servers.embedded.server import free_port
from tests.deploy.places import DEPLOY, program
from tests.support.eventually import eventually

FRAME = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
    {paths}
    include {folder}/site.conf;
}}
"""
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Upstream(ThreadingHTTPServer):
    """Answers with what it was asked; while it is `broken` it hangs up after it has read."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken = False
        self.asked: list[tuple[str, str, str | None]] = []
        self.go_on = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """Of a request: its method, path and where it is said to come from."""

    server: Upstream

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, self.headers["X-Forwarded-For"]))
        if self.server.broken:
            self.connection.close()
            return
        self.send_response(200)
        if self.path == "/api/events/stream":
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            self.server.go_on.wait(30)
            return
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    both = (Upstream(), Upstream())
    yield both
    for one in both:
        one.go_on.set()
        one.shutdown()
        one.server_close()


@pytest.fixture
def port(upstreams: tuple[Upstream, Upstream], tmp_path: Path) -> Iterator[int]:
    """Where nginx speaks TLS."""
    nginx = program("nginx")
    plain, secure = free_port(), free_port()
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    servers = "\n".join(f"server 127.0.0.1:{one.server_port};" for one in upstreams)
    text = (DEPLOY / "nginx" / "orchestrator.conf").read_text("utf-8")
    text = re.sub(r"server api:8000[^;]*;", servers, text)
    text = re.sub(r"/etc/nginx/tls/tls\.(crt|key)", str(tmp_path / "tls.pem"), text)
    text = text.replace("listen 80;", f"listen 127.0.0.1:{plain};")
    text = text.replace("listen 443 ", f"listen 127.0.0.1:{secure} ")
    text = re.sub(r"listen \[::\][^;]*;", "", text)
    (tmp_path / "site.conf").write_text(text)
    paths = "\n".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in KINDS)
    (tmp_path / "nginx.conf").write_text(FRAME.format(folder=tmp_path, paths=paths))
    command = [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(command)
    try:
        eventually(lambda: asked(secure, "GET", "/ready").status == 200, timeout=30)
        for one in upstreams:
            one.asked.clear()
        yield secure
    finally:
        process.terminate()
        process.wait(30)


@dataclass(frozen=True)
class Answer:
    """`first` is the first line of its body."""

    status: int
    headers: Message
    first: bytes


def asked(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        connection.request(method, path, body, headers)
        with connection.getresponse() as answer:
            return Answer(answer.status, answer.headers, answer.readline())
    except OSError as exc:
        raise AssertionError(str(exc)) from exc
    finally:
        connection.close()


def all_of(upstreams: tuple[Upstream, Upstream]) -> list[tuple[str, str, str | None]]:
    return [one for upstream in upstreams for one in upstream.asked]


def test_where_a_client_says_it_comes_from_is_not_passed_on(port: int, upstreams: tuple[Upstream, Upstream]) -> None:
    answer = asked(port, "GET", "/api/runs", **{"X-Forwarded-For": "203.0.113.7"})
    assert (answer.status, all_of(upstreams)) == (200, [("GET", "/api/runs", "127.0.0.1")])
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_post_that_may_have_been_done_is_not_sent_again(port: int, upstreams: tuple[Upstream, Upstream]) -> None:
    upstreams[0].broken = upstreams[1].broken = True
    assert asked(port, "POST", "/api/flows/shop/trigger", b"{}").status == 502
    assert [method for method, _, _ in all_of(upstreams)] == ["POST"]


def test_a_read_is_asked_of_the_other_one(port: int, upstreams: tuple[Upstream, Upstream]) -> None:
    upstreams[0].broken = True
    assert {asked(port, "GET", "/api/runs").status for _ in range(4)} == {200}
    assert upstreams[0].asked


def test_events_come_as_they_happen(port: int, upstreams: tuple[Upstream, Upstream]) -> None:
    assert asked(port, "GET", "/api/events/stream").first == b"data: 1\n"
    for one in upstreams:
        one.go_on.set()


@pytest.mark.parametrize("path", ["/metrics", "/health"])
def test_what_is_for_machines_inside_is_not_public(port: int, upstreams: tuple[Upstream, Upstream], path: str) -> None:
    assert asked(port, "GET", path).status == 404
    assert asked(port, "GET", "/health/liveness").status == 200
    assert [seen for _, seen, _ in all_of(upstreams)] == ["/health/liveness"]


def test_a_body_that_is_too_large_ends_at_the_door(port: int, upstreams: tuple[Upstream, Upstream]) -> None:
    assert asked(port, "POST", "/api/flows/shop/trigger", b"x" * (1024 * 1024 + 1)).status == 413
    assert all_of(upstreams) == []
