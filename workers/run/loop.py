"""One long-lived event loop per process, on a thread of its own, for all `async def` steps."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.observe.logs import LEASE_EXPIRED, about, log
from orchestrator.workers.run.held_lease import HeldLease, StepTimedOut

_LAST_WORDS_S: Final = 2.0
"""How long a cancelled coroutine may clean up before its worker slot moves on."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a coroutine ended. An error travels as a value: asyncio lets SystemExit and KeyboardInterrupt end the loop,
    and turns a cancellation into one without its message."""

    value: Any = None
    error: BaseException | None = None


class Loop:
    """Runs coroutines for threads that wait. Started on first use; started again should its thread have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any], held: HeldLease, timeout_s: float | None) -> Any:
        """The coroutine's result, or its error, whatever that is.

        Raises:
            StepTimedOut: it took longer than `timeout_s`; it was cancelled.
            concurrent.futures.CancelledError: the heartbeat cancelled it.
        """
        over = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_watched(coroutine, over), self._running())
        held.attach(future)
        try:
            ended = _result(future, timeout_s)
        except StepTimedOut:
            future.cancel()
            raise
        finally:
            if not over.wait(_LAST_WORDS_S if future.cancelled() else None):
                log.warning("step.abandoned", extra=about(held.lease, LEASE_EXPIRED, reason="it ignores cancellation"))
        if ended.error is not None:
            raise ended.error
        return ended.value

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="step-loop", daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """For ever: a task of a handler that ends by SystemExit, or a handler that stops the loop, ends `run_forever`, and
    all other coroutines of the process would stand still."""
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException as exc:
            log.warning("loop.interrupted", extra={"error": type(exc).__name__})


async def _watched(coroutine: Coroutine[Any, Any, Any], over: threading.Event) -> _Ended:
    try:
        return _Ended(await coroutine)
    except BaseException as exc:
        return _Ended(error=exc)
    finally:
        over.set()


def _result(future: "Future[_Ended]", timeout_s: float | None) -> _Ended:
    try:
        return future.result(timeout_s)
    except TimeoutError:
        raise StepTimedOut from None
