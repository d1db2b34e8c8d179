"""What a connection may cost before there is a request: the parser waits for ever, and keeps whatever comes."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestrator.http.edge import SECURITY
from orchestrator.http.problems import MEDIA_TYPE, Problem

HEAD_S: Final = 20.0
"""How long the head of a request may take."""
MOST_HEAD: Final = 64 * 1024
"""Bytes of a head; what is above the limits of a request and below this is told so, as a problem."""


class Connection(HttpToolsProtocol):
    """Ends when a head does not come to its end."""

    _late: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._late is not None:
            self._head += len(data)
            if self._head > MOST_HEAD:
                self._end("431 Request Header Fields Too Large", "too_large", "The head of the request is too large.")

    def send_400_response(self, msg: str) -> None:
        """What the parser does not take, such as a URL above 64 KiB, is a problem like any other."""
        self._say("400 Bad Request", "malformed", msg)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect(HEAD_S)

    def on_headers_complete(self) -> None:
        self._forget()
        super().on_headers_complete()

    def _expect(self, within_s: float) -> None:
        self._forget()
        self._head = 0
        late = "408 Request Timeout", "too_slow", "No request came in time."
        self._late = self.loop.call_later(within_s, self._end, *late)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self, status: str, code: str, detail: str) -> None:
        self._forget()
        if not self.transport.is_closing():
            self._say(status, code, detail)

    def _say(self, status: str, code: str, detail: str) -> None:
        """And close."""
        problem = Problem(
            type=f"/api/problems/{code}",
            title=code.replace("_", " ").capitalize(),
            status=int(status[:3]),
            detail=detail,
            instance="",
            code=code,
            fix="send what HTTP/1.1 allows, whole, with a short URL and few headers.",
        )
        body = problem.model_dump_json().encode()
        headers = {**SECURITY, "Connection": "close", "Content-Type": MEDIA_TYPE, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
        self.transport.close()
