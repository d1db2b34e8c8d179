"""Certificates, and a TLS front for servers that were built without: it decrypts and hands on.

The client's side is as real as with any server: handshake, certificate, host name, client certificate.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import trustme

_SSL_REQUEST: Final = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
_CHUNK: Final = 1 << 16


@dataclass(frozen=True)
class Papers:
    """Files of an authority, and of a client that it knows."""

    authority: trustme.CA
    ca: Path
    client: Path
    """Certificate and key in one file."""

    @classmethod
    def made(cls, folder: Path) -> "Papers":
        folder.mkdir(parents=True)
        authority = trustme.CA()
        ca, client = folder / "ca.pem", folder / "client.pem"
        authority.cert_pem.write_to_path(ca)
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(client)
        client.chmod(0o600)  # libpq refuses a key that others can read
        return cls(authority, ca, client)

    def server_context(self, name: str, *, ask_client: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


class TlsFront:
    """Listens on a loopback port. `shaken` counts handshakes that succeeded, `refused` those that did not."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        """`url`: the server behind; PostgreSQL clients ask for TLS in their own protocol first, and get it."""
        self._target = urlsplit(url)
        self._context = context
        self._asks_first = self._target.scheme.startswith("postgres")
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.shaken = self.refused = 0
        self._thread = threading.Thread(target=self._run, name="tls-front", daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def url(self, scheme: str, host: str = "127.0.0.1", query: str = "") -> str:
        """The server's URL, by way of this front."""
        user_info, at, _ = self._target.netloc.rpartition("@")
        netloc = f"{user_info}{at}{host}:{self.port}"
        return urlunsplit(self._target._replace(scheme=scheme, netloc=netloc, query=query))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self._loop.set_exception_handler(lambda loop, context: None)  # refused handshakes are counted, not printed
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # aborted transports close their sockets in the next turns of the loop

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._link(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._asks_first:
            if await reader.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
                return  # it wants to talk in the clear
            writer.write(b"S")
        try:
            await writer.start_tls(self._context)
        except (OSError, EOFError):
            self.refused += 1
            raise
        self.shaken += 1
        inner_reader, inner_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            inner_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; then the other one is closed too, which ends its own pump."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@contextlib.contextmanager
def tls_front(url: str, papers: Papers, *, name: str = "127.0.0.1", ask_client: bool = False) -> Iterator[TlsFront]:
    """In front of the server while the block runs; its certificate is for `name`."""
    front = TlsFront(url, papers.server_context(name, ask_client=ask_client))
    try:
        yield front
    finally:
        front.close()
