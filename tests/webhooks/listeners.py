"""Servers that take what is sent to them, on loopback."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Taken:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Listener:
    """Answers with `status` and `answer_headers`; `taken` has what came."""

    port: int
    status: int = 200
    answer_headers: dict[str, str] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)


@contextmanager
def listening(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Listener]:
    """An HTTP server, with TLS if there is a context for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.taken.append(Taken(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(found.status)
            for name, value in found.answer_headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"thank you")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # refused handshakes are the point
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    found = Listener(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def speaking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that says whatever it likes to each connection; its port."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    stopped = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            talk(connection)

    def accept() -> None:
        while not stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = server.accept()
                connection.settimeout(2)
                talks.append(threading.Thread(target=one, args=(connection,)))
                talks[-1].start()

    talks: list[threading.Thread] = []
    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        stopped.set()
        thread.join()
        server.close()
        for talk_thread in talks:
            talk_thread.join()
