"""What a connection may cost before there is a request: the parser waits for ever, and keeps whatever comes."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
                self._end(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect(HEAD_S)

    def on_headers_complete(self) -> None:
        self._forget()
        super().on_headers_complete()

    def _expect(self, within_s: float) -> None:
        self._forget()
        self._head = 0
        self._late = self.loop.call_later(within_s, self._end, b"408 Request Timeout")

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self, status: bytes) -> None:
        self._forget()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            self.transport.close()
