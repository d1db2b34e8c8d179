"""A check that may hang: it runs on a thread of its own, once at a time, whoever asks and however long it takes."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Final, Generic, TypeVar

T = TypeVar("T")
FRESH_S: Final = 1.0
"""An answer is given again for so long: whoever asks all the time costs a connection a second."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a check found. It does not raise: what went wrong is what it found."""

    found: T
    took_s: float
    at: float
    """On the monotonic clock."""


class Probe(Generic[T]):
    """Safe to ask from several event loops."""

    def __init__(self, name: str, check: Callable[[], T]) -> None:
        self._name = name
        self._check = check
        self._lock = threading.Lock()
        self._last: Answer[T] | None = None
        self._running: Future[Answer[T]] | None = None
        self._since = 0.0

    async def ask(self, budget_s: float) -> Answer[T] | None:
        """None: no answer within that time; or the last one that began has been without an answer for so long."""
        began = self._begin()
        if isinstance(began, Answer):
            return began
        running, since = began
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(running)), _left_s(budget_s, since))
        except TimeoutError:
            return None

    def wait(self, budget_s: float) -> Answer[T] | None:
        """As `ask`, on a thread."""
        began = self._begin()
        if isinstance(began, Answer):
            return began
        running, since = began
        try:
            return running.result(_left_s(budget_s, since))
        except TimeoutError:
            return None

    def _begin(self) -> Answer[T] | tuple["Future[Answer[T]]", float]:
        with self._lock:
            if self._last is not None and monotonic() - self._last.at < FRESH_S:
                return self._last
            if self._running is None:
                self._running, self._since = Future(), monotonic()
                threading.Thread(target=self._run, args=(self._running,), name=self._name, daemon=True).start()
            return self._running, self._since

    def _run(self, running: "Future[Answer[T]]") -> None:
        began = monotonic()
        try:
            found = self._check()
        except BaseException as exc:
            with self._lock:
                self._running = None
            running.set_exception(exc)
            return
        answer = Answer(found, monotonic() - began, monotonic())
        with self._lock:
            self._last, self._running = answer, None
        running.set_result(answer)


def _left_s(budget_s: float, since: float) -> float:
    return max(budget_s - max(0.0, monotonic() - since), 0.05)
