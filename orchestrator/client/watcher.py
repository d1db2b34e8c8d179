"""Watches for the ends of runs: one thread for everything in a process that waits through one client.

Whoever ends a run publishes a hint after the commit (`delivery/hints.py`). It says which run to look at; what became of
the run is read from the ledger, for all waiters in one statement. Where no hints come, the ledger is asked again and
again.
"""

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Final
from uuid import UUID

from orchestrator import forks
from orchestrator.client.rounds import Awaited, Look, Rounds
from orchestrator.client.subscriptions import Subscriptions
from orchestrator.core.states import RunStatus
from orchestrator.delivery import hints
from orchestrator.delivery.line import Line
from orchestrator.errors import UsageError
from orchestrator.observe.logs import log
from orchestrator.settings import Settings

CLOSED: Final = "This client is closed. Fix: make another one, or close it later."
_CLOSE_S: Final = 5.0


class Watcher:
    """Safe to use from several threads and event loops; see `ended`. Its thread runs while somebody waits."""

    def __init__(self, settings: Settings, look: Look) -> None:
        self._settings = settings
        self._look = look
        self._line = Line(settings, self._ring)
        self._begin()
        forks.watch(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._come: list[Awaited] = []
        self._gone: list[tuple[UUID, Future[RunStatus]]] = []

    def after_fork(self) -> None:
        """See `forks.Forked`: the thread, the sockets and the waits are the parent's."""
        forks.inherited(self._bell, self._come, self._gone)
        self._line.after_fork()
        self._begin()

    def ended(self, run_ids: Sequence[UUID], *, known_since: float | None = None) -> list["Future[RunStatus]"]:
        """For each run a future: its final status, once it has ended. Cancel it to wait no more.

        `known_since` (of the monotonic clock): the longer a run is known, the less often it is looked at where no hints
        come. Whoever has known one for long looks first, for it may have ended: see `run_handle.seen`.
        The futures raise RunNotFound, or Unavailable when the database was away for half a minute.

        Raises:
            UsageError: the client is closed.
        """
        forks.notice()
        now = monotonic()
        since = now if known_since is None else known_since
        runs = [Awaited(run_id, since, now, [Future()]) for run_id in run_ids]
        for run in runs:
            run.futures[0].add_done_callback(partial(self._left, run.id))
        with self._lock:
            if self._closed:
                raise UsageError(CLOSED)
            self._come += runs
            if self._thread is None:
                self._bell = socket.socketpair()
                self._thread = threading.Thread(
                    target=self._watch, args=(self._bell[0],), name="watch-runs", daemon=True
                )
                self._thread.start()
        self._ring()
        return [run.futures[0] for run in runs]

    def close(self) -> None:
        """End the thread. Whoever waits gets a UsageError."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_S)
        self._line.close()

    def _left(self, run_id: UUID, future: "Future[RunStatus]") -> None:
        if future.cancelled():
            with self._lock:
                self._gone.append((run_id, future))
            self._ring()

    def _ring(self) -> None:
        """Have the thread look up. It may have ended meanwhile."""
        bell = self._bell
        if bell is not None:
            with suppress(OSError):  # it rings already, or nobody is there
                bell[1].send(b"!", socket.MSG_DONTWAIT)

    def _watch(self, bell: socket.socket) -> None:
        subscriptions = Subscriptions(self._line, bell, partial(hints.channel, self._settings))
        rounds = Rounds(subscriptions, self._look)
        failure: Exception = UsageError(CLOSED)
        try:
            while self._take(rounds):
                rounds.turn()
        except Exception as exc:
            log.exception("watch.failed")
            failure = exc
            self._take(rounds, last=True)
        rounds.fail(failure)
        subscriptions.close()
        self._line.let_go()

    def _take(self, rounds: Rounds, *, last: bool = False) -> bool:
        """Hand over the waits that began and those that were given up; False when this was the last time."""
        with self._lock:
            come, self._come = self._come, []
            gone, self._gone = self._gone, []
            rounds.add(come)
            for run_id, future in gone:
                rounds.leave(run_id, future)
            if not (last or self._closed or rounds.over):
                return True
            bell, self._bell, self._thread = self._bell, None, None
        for end in bell or ():
            end.close()
        return False
