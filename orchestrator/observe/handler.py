"""Our own handler: to stderr, and no more of one event in a second than anybody reads."""

import logging
import sys
from typing import Final

from orchestrator import forks

_QUIET: Final = 10
"""So many times as many lines below WARNING: there is one for each thing that is done."""
_EVENTS: Final = 10_000


class Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # its stream is whatever stderr is
    """Writes to stderr at most `burst` lines of one event (a logger, and a text before its arguments are filled in) in
    a second, and ten times as many below WARNING. Of the rest it tells how many there were: `log.suppressed`, once the
    second is over and something is logged, or at the end of the process. `burst` 0: all are written."""

    def __init__(self, burst: int = 0) -> None:
        super().__init__(sys.stderr)
        self.burst = burst
        self._second = 0
        self._seen: dict[tuple[str, int, str], int] = {}
        self._over: dict[tuple[str, int, str], logging.LogRecord] = {}
        """The last record of each event that is suppressed in this second."""
        forks.watch(self)

    def after_fork(self) -> None:
        """What the parent counted, the parent tells."""
        self._seen, self._over = {}, {}

    def emit(self, record: logging.LogRecord) -> None:
        if self.burst and not self._is_written(record):
            return
        super().emit(record)

    def _is_written(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if second != self._second:
            self.tell_suppressed()
            self._second = second
        key = record.name, record.levelno, record.msg if type(record.msg) is str else type(record.msg).__name__
        count = self._seen[key] = self._seen.get(key, 0) + 1
        if count > self.burst * (1 if record.levelno >= logging.WARNING else _QUIET):
            self._over[key] = record
            return False
        if len(self._seen) > _EVENTS:  # texts that differ each time are no event that could be counted
            self._seen.clear()
        return True

    def tell_suppressed(self) -> None:
        """Write how many lines were not, and begin to count anew."""
        seen, over = self._seen, self._over
        self._seen, self._over = {}, {}
        for key, last in over.items():
            count = seen.get(key, 0) - self.burst * (1 if last.levelno >= logging.WARNING else _QUIET)
            super().emit(_summary(last, key[2], count))

    def close(self) -> None:
        """With what was not told yet."""
        with self.lock:  # type: ignore[union-attr]  # every handler has one
            self.tell_suppressed()
        super().close()


def _summary(last: logging.LogRecord, event: str, count: int) -> logging.LogRecord:
    """At the time, and with the level, of the last one."""
    told = logging.makeLogRecord(
        {"name": last.name, "msg": "log.suppressed", "levelno": last.levelno, "levelname": last.levelname}
    )
    told.created, told.msecs = last.created, last.msecs
    told.__dict__ |= {"of": event, "suppressed": count}
    return told
