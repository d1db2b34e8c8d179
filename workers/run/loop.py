"""One long-lived event loop per process, on a thread of its own, for all `async def` steps."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Final

from orchestrator.observe.logs import LEASE_EXPIRED, about, log
from orchestrator.workers.run.held_lease import HeldLease, StepTimedOut

_LAST_WORDS_S: Final = 2.0
"""How long a cancelled coroutine may clean up before its worker slot moves on."""


class Loop:
    """Runs coroutines for threads that wait. Started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any], held: HeldLease, timeout_s: float | None) -> Any:
        """The coroutine's result.

        Raises:
            StepTimedOut: it took longer than `timeout_s`; it was cancelled.
            asyncio.CancelledError: the heartbeat cancelled it, or it cancelled itself.
        """
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_watched(coroutine, ended), self._running())
        held.attach(future)
        try:
            return _result(future, timeout_s)
        except StepTimedOut:
            future.cancel()
            raise
        finally:
            if not ended.wait(_LAST_WORDS_S if future.cancelled() else None):
                log.warning("step.abandoned", extra=about(held.lease, LEASE_EXPIRED, reason="it ignores cancellation"))

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="step-loop", daemon=True).start()
            return self._loop


async def _watched(coroutine: Coroutine[Any, Any, Any], ended: threading.Event) -> Any:
    try:
        return await coroutine
    finally:
        ended.set()


def _result(future: "Future[Any]", timeout_s: float | None) -> Any:
    try:
        return future.result(timeout_s)
    except TimeoutError:
        if future.done():  # the handler's own TimeoutError
            raise
        raise StepTimedOut from None
