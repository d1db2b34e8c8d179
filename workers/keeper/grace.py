"""The end of a warm shutdown that has a grace: what still runs is handed back in time, and the process ends.

A prefork worker kills its children first, with what they started, and then hands their claims back: no handler runs
when its step is READY again. If the ledger is away in between, their leases run out, as those of any process that
died. A thread cannot be ended: its claim is handed back, which keeps it from recording, and the process ends as the
very next thing; the dispatch is sent last of all, so that nobody hears of the step before.
"""

import os
import signal
import threading
import time
from typing import Any, Final

from orchestrator.core.facts import Dispatch
from orchestrator.core.stopping import margin
from orchestrator.engine import workers
from orchestrator.engine.steps import release
from orchestrator.observe.logs import log
from orchestrator.workers.keeper.children import Children, kill_programs
from orchestrator.workers.run.outage import GaveUp, Outage, retry_through_outage
from orchestrator.workers.state import WorkerState

_LAST_WORDS: Final = 0.4
"""The share of the margin that handlers of this process get to clean up."""
_POLL_S: Final = 0.02


class Grace:
    """A thread that waits for the shutdown to begin. Without a grace nothing happens: the running steps may end."""

    def __init__(self, state: WorkerState, worker: Any, children: Children) -> None:
        self._state = state
        self._worker = worker
        self._children = children
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._until = 0.0
        self._thread = threading.Thread(target=self._run, name="keeper-grace", daemon=True)

    def start(self) -> None:
        if self._state.settings.stop_grace is not None:
            self._thread.start()

    def begin(self) -> None:
        """Safe in a signal handler."""
        grace = self._state.settings.stop_grace
        if grace is not None and not self._begun.is_set():
            self._until = time.monotonic() + grace.total_seconds()
            self._begun.set()

    def end(self) -> None:
        """The worker ended by itself, or because its handlers were told to stop: then their claims are still to be
        handed back, before its connections are closed. All that may take until the end of the grace."""
        self._ended.set()
        if self._begun.is_set():
            self._thread.join(self._left_s())

    # ----

    def _run(self) -> None:
        self._begun.wait()
        grace = self._state.settings.stop_grace
        assert grace is not None
        last = threading.Timer(self._left_s(), self._exit)
        last.daemon = True
        last.start()
        margin_s = margin(grace).total_seconds()
        if self._ended.wait(max(0.0, self._left_s() - margin_s)):
            return
        if self._state.prefork:
            self._children.end_all()
            self._state.runtime().publisher.publish(self._handed_back())
        else:
            self._end_here(margin_s * _LAST_WORDS)

    def _end_here(self, last_words_s: float) -> None:
        """Where threads of this process run the handlers. Coroutines end when they are told to, threads if they ask."""
        heartbeat = self._state.runtime().heartbeat
        heartbeat.abandon()
        ends = time.monotonic() + last_words_s
        while heartbeat.holds_any and time.monotonic() < ends:
            time.sleep(_POLL_S)
        kill_programs(but=self._beat_pid)
        dispatches = self._handed_back()
        stuck = heartbeat.holds_any
        if stuck:
            self._say_goodbye()
        self._state.runtime().publisher.publish(dispatches)
        if stuck:
            self._exit()

    def _handed_back(self) -> tuple[Dispatch, ...]:
        """Asked for until the ledger answers, or the grace is over."""
        state = self._state
        outage = Outage(self._left_s())
        try:
            found = retry_through_outage(
                outage, "hand back", lambda: release.hand_back(state.runtime().ledger, state.worker_id)
            )
        except Exception as exc:
            reason = "database away" if isinstance(exc, GaveUp) else f"{type(exc).__name__}: {exc}"[:300]
            log.error("shutdown.left_to_leases", extra={"reason": reason})
            return ()
        if found:
            log.warning("shutdown.handed_back", extra={"count": len(found)})
        return found

    def _say_goodbye(self) -> None:
        try:
            workers.gone(self._state.runtime().ledger, self._state.worker_id)
        except Exception as exc:  # the row runs out by itself
            log.debug("keeper.farewell_failed", extra={"error": type(exc).__name__})

    def _left_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    @property
    def _beat_pid(self) -> int | None:
        """The beat of `celery worker -B`."""
        pid: int | None = getattr(getattr(self._worker, "beat", None), "pid", None)
        return pid

    def _exit(self) -> None:
        """Whatever the other threads do. A handler that a thread runs ends here."""
        if self._beat_pid is not None:
            os.kill(self._beat_pid, signal.SIGTERM)  # it gives its lock back
        os._exit(self._state.exit_code)
