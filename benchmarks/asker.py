"""Requests over connections that stay open, one after the other on each, as cheaply as Python's own library can."""

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from benchmarks.processes import BenchFailed

_PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class Request:
    """What is sent, and the status that is right."""

    path: str
    method: str = "GET"
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


class Connection:
    """To one server, kept open."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._opened = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PATIENCE_S)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, request: Request) -> bytes:
        """The body of the answer.

        Raises:
            BenchFailed: another status than the right one.
        """
        headers = {**self._headers, **request.headers}
        self._opened.request(request.method, request.path, request.body, headers)
        answer = self._opened.getresponse()
        body = answer.read()
        if answer.status != request.status:
            raise BenchFailed(f"{request.method} {request.path} answered {answer.status}: {body[:500]!r}")
        return body

    def timed(self, request: Request) -> float:
        """Milliseconds until the whole answer was read."""
        began = time.perf_counter()
        self.ask(request)
        return (time.perf_counter() - began) * 1000

    def close(self) -> None:
        self._opened.close()


def together(connections: Sequence[Connection], count: int, make: Callable[[int], Request]) -> float:
    """`count` requests over all `connections` at once, the next one as soon as one is free; the seconds it took.

    Raises:
        BenchFailed: one was answered otherwise than it should.
    """
    numbers, taking, failed = iter(range(count)), threading.Lock(), list[BaseException]()

    def work(connection: Connection) -> None:
        try:
            while not failed:
                with taking:
                    number = next(numbers, None)
                if number is None:
                    return
                connection.ask(make(number))
        except Exception as exc:
            failed.append(exc)

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise BenchFailed(f"A request failed: {failed[0]}")
    return time.perf_counter() - began
