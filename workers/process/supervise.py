"""Several worker processes under one parent: how to use more than one core for consuming."""

import ctypes
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Final, Protocol

from orchestrator.observe.logs import log, tell_suppressed

_PR_SET_PDEATHSIG: Final = 1
_FIRST_S: Final = 0.5
_CAP_S: Final = 30.0
_CALM_S: Final = 30.0
_POLL_S: Final = 0.1
_LATE_S: Final = 5.0
"""Workers end themselves when their grace is over: one that has not hangs."""


BESIDE: Final = 0
"""The number of the process beside the workers."""


class Watched(Protocol):
    """What those see of the workers who ask for their health."""

    def moved(self, *, stopping: bool) -> None:
        """The process above them does, and whether it stops."""

    def listens(self, number: int, port: int) -> None:
        """Where the process of this number answers; 0: it has ended."""


def supervise(
    work: Callable[[int], int],
    count: int,
    what: str = "worker",
    *,
    stop_grace: timedelta | None = None,
    drained: int | None = None,
    watched: Watched | None = None,
) -> int:
    """Keep `count` processes running `work(1)` … `work(count)` until SIGTERM or SIGINT.

    One that ends is started again, after a pause that grows while it keeps ending; unless its exit code is `drained`,
    and when all were, this ends too. A usage error (code 2) of the first start ends all. With a `stop_grace` those that
    have not ended by then, when they were told to, are killed a little later. If they are `watched`, `work(BESIDE)`
    runs beside them until all have ended. Must be called before any thread or connection is made: the processes are
    forked.
    """
    return _Supervisor(work, count, what, stop_grace, drained, watched).run()


class _Supervisor:
    def __init__(
        self,
        work: Callable[[int], int],
        count: int,
        what: str,
        stop_grace: timedelta | None,
        drained: int | None,
        watched: Watched | None,
    ) -> None:
        self._watched = watched
        self._work = work
        self._what = what
        self._patience_s = math.inf if stop_grace is None else stop_grace.total_seconds() + _LATE_S
        self._kill_at = math.inf
        self._drained = drained
        self._slots = set(range(1 if watched is None else BESIDE, count + 1))
        self._pids: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._due = dict.fromkeys(self._slots, 0.0)
        self._pause = dict.fromkeys(self._slots, _FIRST_S)
        self._stopping = False
        self._code = 0

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGQUIT, self._pass_on)
        while True:
            self._reap()
            if self._watched is not None:
                self._watched.moved(stopping=self._stopping)
            if time.monotonic() > self._kill_at:
                log.error(f"{self._what}.killed", extra={"reason": "it did not stop in time", "pids": list(self._pids)})
                self._kill_at, self._code = math.inf, 1
                self._send(signal.SIGKILL)
            if (self._stopping or not self._slots - {BESIDE}) and not self._working():
                self._send(signal.SIGKILL)
                return self._code
            if not self._stopping:
                self._start_missing()
            time.sleep(_POLL_S)  # a signal ends it early

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._begin_stop()
        self._send(signal.SIGTERM)

    def _begin_stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._kill_at = time.monotonic() + self._patience_s

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._begin_stop()
        self._send(signal.Signals(number))

    def _working(self) -> list[int]:
        return [pid for pid, slot in self._pids.items() if slot != BESIDE]

    def _send(self, number: signal.Signals) -> None:
        """What is beside the workers ignores whatever asks it to end."""
        for pid in list(self._pids):
            os.kill(pid, number)

    def _start_missing(self) -> None:
        running = set(self._pids.values())
        for slot in sorted(self._slots):
            if slot not in running and time.monotonic() >= self._due[slot]:
                pid = self._fork(slot)
                self._pids[pid] = slot
                self._started[slot] = time.monotonic()

    def _fork(self, slot: int) -> int:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            die_with_parent(parent)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            code = self._work(slot)
        except BaseException:
            traceback.print_exc()
        finally:
            tell_suppressed()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid, slot in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._pids[pid]
            if self._watched is not None:
                self._watched.listens(slot, 0)
            self._ended(slot, pid, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: int, pid: int, code: int) -> None:
        if code == self._drained:
            self._slots.discard(slot)
            return
        if self._stopping:
            self._code = self._code or max(code, 0)
            return
        if code == 2:  # it would not start the next time either
            self._code = code
            self._stopping = True
            self._send(signal.SIGTERM)
            return
        now = time.monotonic()
        calm = now - self._started[slot] > _CALM_S
        self._pause[slot] = _FIRST_S if calm else min(self._pause[slot] * 2, _CAP_S)
        self._due[slot] = now + self._pause[slot]
        log.error(f"{self._what}.ended", extra={"pid": pid, "exit": code, "restart_in_s": self._pause[slot]})


def die_with_parent(parent: int) -> None:
    """Linux: this process is killed when its parent ends, however that ends. Elsewhere nothing happens."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)
