"""A TCP proxy that cuts a connection at an exact moment: before a request arrives, or before its reply does."""

import contextlib
import socket
import threading
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

_CHUNK: Final = 1 << 16
Loss = Literal["request", "reply"]


@dataclass(frozen=True)
class Attempt:
    """A client wanted a connection."""

    at: float
    """On the monotonic clock."""
    served: bool
    """False: the server was away."""


class Proxy:
    """Between clients and one server. `cut` says what to wait for; each cut happens once."""

    def __init__(self, url: str) -> None:
        """`url`: the server; its host and port are what counts."""
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        user = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}"))
        self._guard = threading.Lock()
        self._rule: tuple[list[bytes], Loss] | None = None
        self.cuts = 0
        self.attempts: list[Attempt] = []
        """Connections that clients asked for, also those that found the server away."""
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self, *words: bytes, lose: Loss) -> None:
        """On the connection whose client sends the first word, and then the others in later requests: lose the last
        one, or forward it and lose its reply. Then both ends see a reset."""
        with self._guard:
            self._rule = (list(words), lose)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server, timeout=10)
            except OSError:
                self.attempts.append(Attempt(monotonic(), served=False))
                client.close()
                continue
            self.attempts.append(Attempt(monotonic(), served=True))
            server.settimeout(None)
            link = _Link(self, client, server)
            for work in (link.up, link.down):
                threading.Thread(target=work, name="proxy-link", daemon=True).start()

    def pass_reply(self) -> None:
        """Called before each reply; it may take its time."""

    def meant(self, request: bytes, words: list[bytes] | None) -> tuple[list[bytes] | None, Loss | None]:
        """What this connection still waits for after this request, and what to do with it."""
        with self._guard:
            if self._rule is None:
                return None, None
            wanted, lose = self._rule
            words = list(wanted) if words is None else words
            if words[0] not in request:
                return (words if len(words) < len(wanted) else None), None
            rest = words[1:]
            if rest:
                return rest, None
            self._rule = None
            self.cuts += 1
            return None, lose


class _Link:
    """One client and its connection to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._deaf = threading.Event()

    def up(self) -> None:
        words: list[bytes] | None = None
        with contextlib.suppress(OSError):
            while request := self._client.recv(_CHUNK):
                words, lose = self._proxy.meant(request, words)
                if lose == "request":
                    break
                if lose == "reply":
                    self._deaf.set()
                self._server.sendall(request)
        if not self._deaf.is_set():
            self._close()

    def down(self) -> None:
        with contextlib.suppress(OSError):
            while reply := self._server.recv(_CHUNK):
                self._proxy.pass_reply()
                if self._deaf.is_set():
                    break
                self._client.sendall(reply)
        self._close()

    def _close(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
