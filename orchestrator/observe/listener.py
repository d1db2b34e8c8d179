"""A small HTTP server for probes and scrapes: a thread in a process that does something else.

It answers GET and HEAD, each on a connection of its own. It holds no lock of the process around it, so it answers while
that hangs. A forked child gives up the port at once: else a child that outlives its parent would keep it.
"""

import errno
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from orchestrator import forks
from orchestrator.core.listen_address import ListenAddress
from orchestrator.errors import UsageError
from orchestrator.observe.logs import log

_CONNECTIONS: Final = 32
"""Open at a time. Whoever comes next takes the place of the one that has been open longest."""
_SILENCE_S: Final = 5.0
_WAITING: Final = 64
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route says."""

    status: int
    body: bytes
    content_type: str = _TEXT

    @classmethod
    def json(cls, status: int, value: object) -> "Answer":
        """A JSON document."""
        return cls(status, json.dumps(value, ensure_ascii=False).encode() + b"\n", _JSON)

    @classmethod
    def text(cls, status: int, text: str) -> "Answer":
        """A line for people."""
        return cls(status, f"{text}\n".encode())


Headers = Message
"""Read as a mapping; case does not matter."""
Route = Callable[[Headers], Answer]
"""Given the headers of the request. Called on a thread of its own, several at once."""


class Listener:
    """Serves `routes`, by path, from `start` to `close`. `what` it serves names the thread and begins errors."""

    def __init__(self, address: ListenAddress, routes: Mapping[str, Route], *, what: str = "health") -> None:
        self._address = address
        self._routes = routes
        self._what = what
        self._server: _Server | None = None

    def start(self) -> "Listener":
        """Listen. After it, connections are taken.

        Raises:
            UsageError: the address cannot be listened on.
        """
        self._server = server = _Server(_bound(self._address, self._what), self._routes)
        forks.watch(self)
        threading.Thread(target=server.serve_forever, name=f"{self._what}-listener", daemon=True).start()
        return self

    @property
    def port(self) -> int:
        """The one that is listened on; after `start`."""
        assert self._server is not None
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Take no connection any more, and free the port."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def after_fork(self) -> None:
        """See `forks.Forked`: closed here, without a word to whoever is connected to the parent."""
        server, self._server = self._server, None
        if server is not None:
            server.forget()


def check(address: ListenAddress, what: str = "health") -> None:
    """Whether it can be listened on at this moment, for whoever starts others that will.

    Raises:
        UsageError: it cannot.
    """
    _bound(address, what).close()


def _bound(address: ListenAddress, what: str) -> socket.socket:
    try:
        if address.host:
            family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(where[:2], family=family, backlog=_WAITING)
        if socket.has_dualstack_ipv6():
            with suppress(OSError):
                return socket.create_server(
                    ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_WAITING
                )
        return socket.create_server(("", address.port), backlog=_WAITING)
    except (OSError, OverflowError) as exc:
        raise UsageError(f"{what.capitalize()} cannot be served at {address}: {_reason(exc, address)}") from exc


def _reason(exc: Exception, address: ListenAddress) -> str:
    match getattr(exc, "errno", None):
        case errno.EADDRINUSE:
            return (
                f"another program listens on port {address.port}. "
                f"Fix: choose another port, or end that program (`ss -ltnp 'sport = :{address.port}'` names it)."
            )
        case errno.EADDRNOTAVAIL:
            return f"{address.host} is not an address of this machine. Fix: write :{address.port} for every one it has."
        case errno.EACCES:
            return "this user may not listen on ports below 1024. Fix: choose a higher one."
    if isinstance(exc, socket.gaierror):
        return f"no machine is called {address.host!r}. Fix: write :{address.port} for every address of this one."
    return f"{exc}. Fix: choose another address."


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Around a socket that listens already. A slow or silent client costs a thread until others need its place."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, routes: Mapping[str, Route]) -> None:
        socketserver.BaseServer.__init__(self, listening.getsockname(), _Handler)
        self.socket = listening
        self.routes = routes
        self._open: dict[Any, None] = {}
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            longest = next(iter(self._open)) if len(self._open) > _CONNECTIONS else None
            if longest is not None:
                del self._open[longest]
        if longest is not None:
            with suppress(OSError):
                longest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client went away amid its request, or no thread could be started: the next one gets its answer."""
        log.debug("listener.failed", exc_info=True)

    def forget(self) -> None:
        """In a forked child. The lock may be held by a thread that the child does not have."""
        for one in (self.socket, *list(self._open)):
            one.close()


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer."""

    server: _Server
    server_version = "orchestrator"
    sys_version = ""
    timeout = _SILENCE_S

    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer(), body=False)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` itself refuses: a request that is none, or another method."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send(
                Answer.text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are served here."), Allow="GET, HEAD"
            )
            return
        self._send(Answer.text(code, message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds: no line for each."""

    def _answer(self) -> Answer:
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            known = ", ".join(sorted(self.server.routes))
            return Answer.text(HTTPStatus.NOT_FOUND, f"Nothing is here. Served are {known}.")
        try:
            return route(self.headers)
        except Exception as exc:
            log.error("listener.route_failed", extra={"path": self.path, "error": type(exc).__name__}, exc_info=True)
            return Answer.text(HTTPStatus.INTERNAL_SERVER_ERROR, "The answer could not be made; the log says why.")

    def _send(self, answer: Answer, *, body: bool = True, **headers: str) -> None:
        given = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **headers,
        }
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in given.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self.close_connection = True
        self.wfile.write(head + (answer.body if body else b""))
