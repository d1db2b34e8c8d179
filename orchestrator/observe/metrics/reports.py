"""How pool children report what they count to the main process: lines through a pipe that is made before they are.

A pipe, and not a pair of datagram sockets: of those Linux queues ten messages and refuses the next, which a burst of
short steps reaches at once; a pipe takes a megabyte. Up to 4,096 bytes are written whole or not at all, so a child that
is killed leaves no half line, and many may write. A line that finds no room is dropped, and the next one says so: no
step ever waits for its metrics.
"""

import fcntl
import os
import select
import threading
from contextlib import suppress
from time import sleep
from typing import Final

from orchestrator.observe.logs import log
from orchestrator.observe.metrics.meter import Meter
from orchestrator.observe.metrics.metric import Kind, Metric
from orchestrator.observe.metrics.table import METRICS, METRICS_DROPPED_REPORTS

_ROOM: Final = 1 << 20
_READ: Final = 1 << 16
_PAUSE_S: Final = 0.05
"""So that the reader wakes for many steps at once, and the main process is left to its work."""
_NUMBERS: Final = {metric: number for number, metric in enumerate(METRICS)}
_DROPPED: Final = _NUMBERS[METRICS_DROPPED_REPORTS]


class Reporter:
    """A child's end. What it counts is with the main process at once, so a child that is killed loses nothing but what
    it had not done yet."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._dropped = 0

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        self._report(_NUMBERS[metric], by, labels)

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        self._report(_NUMBERS[metric], value, labels)

    def _report(self, number: int, value: float, labels: tuple[str, ...]) -> None:
        line = "\t".join((str(number), repr(value), *labels)) + "\n"
        if self._dropped:
            line += f"{_DROPPED}\t{self._dropped}\n"
        data = line.encode()
        try:
            if len(data) > select.PIPE_BUF:
                raise BlockingIOError
            os.write(self._end, data)
        except OSError:  # it is full, or nobody is there to read
            self._dropped += 1
        else:
            self._dropped = 0


class Pipe:
    """Both ends, of which the main process keeps the one to read from, and each child the other."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._in, False)
        with suppress(OSError, AttributeError):  # not on Linux, or the user has no more room
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _ROOM)

    def reporter(self) -> Reporter:
        """For a child."""
        return Reporter(self._in)

    def read_into(self, meter: Meter) -> None:
        """From now on a thread of this process adds what children report."""
        threading.Thread(target=self._read, args=(meter,), name="metrics-reports", daemon=True).start()

    def close(self) -> None:
        """No child is left: the reader ends when it has read what is there."""
        os.close(self._in)

    def _read(self, meter: Meter) -> None:
        rest = b""
        while data := os.read(self._out, _READ):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _add(meter, line)
            sleep(_PAUSE_S)
        os.close(self._out)


def _add(meter: Meter, line: bytes) -> None:
    try:
        number, value, *labels = line.decode().split("\t")
        metric = METRICS[int(number)]
        if metric.kind is Kind.HISTOGRAM:
            meter.observe(metric, *labels, value=float(value))
        else:
            meter.count(metric, *labels, by=float(value))
    except (ValueError, IndexError, LookupError):  # a name with a tab in it
        meter.count(METRICS_DROPPED_REPORTS)
        log.debug("metrics.report_unreadable", exc_info=True)
