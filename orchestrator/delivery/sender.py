"""Sends a client's dispatches from a thread of its own, so that a start returns with its commit.

What is not sent when the process dies is sent by a keeper; a program that ends in order sends everything first.
"""

import atexit
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Final

from orchestrator import forks
from orchestrator.core.facts import Dispatch
from orchestrator.delivery.publisher import Publisher

_BUSY_S: Final = 0.005
"""Starts that follow each other closer than this are sent together."""
_LINGER_S: Final = 0.002
_BACKLOG: Final = 20_000
"""Dispatches that may wait; whoever brings more waits too."""
_CLOSE_S: Final = 30.0


class Sender:
    """Safe to use from several threads."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        self._waiting: list[Dispatch] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def after_fork(self) -> None:
        """See `forks.Forked`: what waits is sent by the parent, whose thread that is."""
        atexit.unregister(self.close)
        self._begin()

    def send(self, dispatches: Sequence[Dispatch]) -> None:
        """Have these sent soon. Never raises for a broken broker."""
        if not dispatches:
            return
        forks.notice()
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < _BACKLOG)
            self._waiting.extend(dispatches)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._changed.notify_all()

    def close(self) -> None:
        """Send what waits, and confirm it; nothing may be sent afterwards."""
        atexit.unregister(self.close)
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        self._publisher.close()

    def _run(self) -> None:
        sent_at = 0.0
        while batch := self._next(sent_at):
            self._publisher.publish(batch)
            sent_at = monotonic()

    def _next(self, sent_at: float) -> list[Dispatch]:
        """What waits, once something does; empty when there is nothing more to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
        if monotonic() - sent_at < _BUSY_S:
            self._closed.wait(_LINGER_S)
        with self._changed:
            batch, self._waiting = self._waiting, []
            self._changed.notify_all()
        return batch
