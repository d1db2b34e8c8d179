"""Waits for the ends of runs over HTTP: one thread with an event loop for everybody who waits through one client."""

import asyncio
import threading
from concurrent.futures import Future
from typing import Any, Final

import httpx2

from orchestrator import forks
from orchestrator.client.remote.transport import PATIENT_TRIES, Ask, Transport
from orchestrator.client.waits import deadline, left_s
from orchestrator.client.watcher import CLOSED
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.core.values import loads
from orchestrator.errors import UsageError

_LONGEST_S: Final = 20.0
"""Of one request that waits, after which others may have its place."""
_SHORTEST_S: Final = 0.1
_OPEN: Final = 50
"""Requests that wait at once: the API takes a hundred of a key by default, and somebody else may have the same one."""
_TURN_S: Final = 6.0
"""The same where others wait for that: so they are 500 requests a minute, and a key may make 600 by default."""
_CLOSE_S: Final = 5.0


class Waits:
    """Safe to use from several threads and event loops. Each wait is a request that the API answers when the run has
    ended; cancelling it closes its connection. The thread begins with the first wait, and ends with the client."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._slots, self._waiting = asyncio.Semaphore(_OPEN), 0
        self._running: tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient, threading.Thread] | None = None

    def after_fork(self) -> None:
        """See `forks.Forked`: the loop, its thread and its connections are the parent's."""
        forks.inherited(self._running)
        self._begin()

    def ended(self, path: str, limit_s: float | None = None) -> "Future[RunStatus]":
        """The final status of the run at `path`, once it has ended. Cancel it to wait no more; whoever does so after
        `limit_s` says it before, so that the API waits no longer than that.

        Raises:
            UsageError: the client is closed.
        """
        forks.notice()
        with self._lock:
            if self._closed:
                raise UsageError(CLOSED)
            if self._running is None:
                self._running = self._start()
            loop, http, _ = self._running
            return asyncio.run_coroutine_threadsafe(self._until_ended(http, path, limit_s), loop)

    def close(self) -> None:
        """Whoever waits is told."""
        with self._lock:
            self._closed, running, self._running = True, self._running, None
        if running is not None:
            loop, _, thread = running
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_CLOSE_S)

    def _start(self) -> tuple[asyncio.AbstractEventLoop, httpx2.AsyncClient, threading.Thread]:
        loop, http = asyncio.new_event_loop(), self._transport.awaited()
        thread = threading.Thread(target=_run, args=(loop, http), name="orchestrator-waits", daemon=True)
        thread.start()
        return loop, http, thread

    async def _until_ended(self, http: httpx2.AsyncClient, path: str, limit_s: float | None) -> RunStatus:
        ends = deadline(limit_s)
        self._waiting += 1
        try:
            while True:
                async with self._slots:
                    wait_s = self._turn_s(left_s(ends))
                    ask = Ask("GET", path, {"wait": f"{wait_s:.3f}s"}, wait_s=wait_s, tries=PATIENT_TRIES)
                    answer = await self._transport.asked(http, ask)
                status = RunStatus(loads(answer.content)["status"])
                if status in FINAL_RUN:
                    return status
        except asyncio.CancelledError:
            if self._closed:
                raise UsageError(CLOSED) from None
            raise
        finally:
            self._waiting -= 1

    def _turn_s(self, left: float | None) -> float:
        """How long a request waits: less where others wait for its place."""
        longest_s = _LONGEST_S if self._waiting <= _OPEN else _TURN_S
        return longest_s if left is None else max(min(left, longest_s), _SHORTEST_S)


def _run(loop: asyncio.AbstractEventLoop, http: httpx2.AsyncClient) -> None:
    """Until it is told to stop; then whoever waits is told, and the connections are closed."""
    try:
        loop.run_forever()
        loop.run_until_complete(_end(asyncio.all_tasks(loop), http))
    finally:
        loop.close()


async def _end(waits: "set[asyncio.Task[Any]]", http: httpx2.AsyncClient) -> None:
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    await http.aclose()
