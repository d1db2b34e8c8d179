"""The loops of this process and when each last moved: stamps in memory, so that liveness needs no server.

A loop says until when it will have moved again: at the start of a turn within its limit, at the end within its limit
after its pause. So one that rests for an hour is not taken for one that hangs.
"""

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

_FRAMES: Final = 4
_WAITING: Final = ("psycopg.", "redis.", "kombu.utils.functional")
"""Modules in which a thread waits for a server; in the last one between two attempts to connect."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a loop stands. `still_s`: how long it has not moved. `due_s`: until it should have; negative: it hangs."""

    name: str
    still_s: float
    due_s: float
    at: str = ""
    """Of one that hangs: the innermost calls of its thread, for the log."""

    @property
    def hangs(self) -> bool:
        """Whether it should have moved by now."""
        return self.due_s < 0


class Pulse:
    """One loop's. Written by the thread that runs it, read by any. `limit_s`: how long a turn may take. While
    `excused` says so it need not move."""

    def __init__(self, name: str, limit_s: float, excused: Callable[[], bool] = lambda: False) -> None:
        self.name = name
        self.limit_s = limit_s
        self._excused = excused
        self._thread = 0
        self._lent = False
        self._said = (0.0, 0.0)

    def begin(self) -> None:
        """The loop runs from now on."""
        self.moved()
        _loops[id(self)] = self

    def end(self) -> None:
        """It ended, and was meant to. One that dies of an error does not come here, and hangs from then on."""
        _loops.pop(id(self), None)

    def moved(self, pause_s: float = 0.0) -> None:
        """It moves, and will again after that pause."""
        self._thread = threading.get_ident()
        now = monotonic()
        self._said = now, now + pause_s + self.limit_s

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Around other people's code. If it runs on the thread of the loop, the loop need not move meanwhile."""
        if threading.get_ident() != self._thread:
            yield
            return
        self._lent = True
        try:
            yield
        finally:
            self.moved()
            self._lent = False

    @property
    def still_s(self) -> float:
        """Seconds since it last moved."""
        return monotonic() - self._said[0]

    def standing(self) -> Standing:
        """Now."""
        moved, due = self._said
        now = monotonic()
        excused = self._lent or self._excused() or (due < now and self._waits())
        if excused or due >= now:
            return Standing(self.name, now - moved, self.limit_s if excused else due - now)
        return Standing(self.name, now - moved, due - now, self._where())

    def _waits(self) -> bool:
        """Whether its thread waits for a server to answer. PostgreSQL is waited for without a limit while its machine
        lives and only its processes stand still, as with a disk that hangs; Redis with a limit, again and again. No
        restart of ours would help."""
        frame = sys._current_frames().get(self._thread)
        for _ in range(_FRAMES):
            if frame is None:
                return False
            if str(frame.f_globals.get("__name__")).startswith(_WAITING):
                return True
            frame = frame.f_back
        return False

    def _where(self) -> str:
        frame = sys._current_frames().get(self._thread)
        if frame is None:
            return "its thread has ended"
        calls = traceback.extract_stack(frame)[-_FRAMES:]
        return " < ".join(f"{call.name} ({call.filename}:{call.lineno})" for call in reversed(calls))


_loops: Final[dict[int, Pulse]] = {}


def standings() -> list[Standing]:
    """How the loops of this process stand, by name."""
    return [pulse.standing() for pulse in sorted(_loops.values(), key=lambda pulse: pulse.name)]
