"""The health of several worker processes as one: whoever started them has one address to ask, or one service.

Each process answers on a port of this machine that only its siblings know. One more process beside them asks all and
answers for them: the one that forks them must have no threads.
"""

import json
import mmap
import os
import signal
import struct
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from time import monotonic
from typing import Any, Final

from orchestrator.observe import health
from orchestrator.observe.health import Part
from orchestrator.observe.listener import Answer, Headers
from orchestrator.observe.pulse import Standing
from orchestrator.observe.systemd import Manager
from orchestrator.settings import Settings
from orchestrator.workers.app.exit import exit_with_message

ANY_PORT: Final = "127.0.0.1:0"
_PATIENCE_S: Final = 3.0
"""More than a process waits for its ledger when it is asked whether it is ready."""
_HEAD: Final = struct.Struct("<dB")
_PORT: Final = struct.Struct("<I")
_FIRST: Final = 64
_SUPERVISOR_S: Final = 30.0


class Board:
    """A page of memory that is made before the fork: where each process listens, that the one above them moves, and
    whether it stops. Each slot has one writer."""

    def __init__(self, count: int) -> None:
        self.numbers = range(1, count + 1)
        self._memory = mmap.mmap(-1, _FIRST + (count + 1) * _PORT.size)

    def moved(self, *, stopping: bool) -> None:
        """By the process above the others, all the time."""
        _HEAD.pack_into(self._memory, 0, monotonic(), stopping)

    @property
    def still_s(self) -> float:
        """Since when it did not."""
        return monotonic() - float(_HEAD.unpack_from(self._memory)[0])

    @property
    def stopping(self) -> bool:
        """Whether all were told to stop."""
        return bool(_HEAD.unpack_from(self._memory)[1])

    def listens(self, number: int, port: int) -> None:
        """The process of this number answers there; 0: it ended, and is started again."""
        _PORT.pack_into(self._memory, _FIRST + number * _PORT.size, port)

    def port(self, number: int) -> int:
        """0: it does not answer yet."""
        return int(_PORT.unpack_from(self._memory, _FIRST + number * _PORT.size)[0])


class Together:
    """Asks each process what it says of itself. One that is not there is being started again, and hangs no more than it
    is ready."""

    def __init__(self, board: Board, hang_after_s: float) -> None:
        self._board = board
        self._hang_after_s = hang_after_s
        self._heard = dict.fromkeys(board.numbers, monotonic())
        from orchestrator.observe.metrics.merged import Merged  # no worker pays for its imports

        self._merged = Merged()
        self._asking = ThreadPoolExecutor(3 * len(board.numbers), thread_name_prefix="health-asks")

    @property
    def stopping(self) -> bool:
        return self._board.stopping

    def parts(self) -> Mapping[str, Part]:
        """One for each process."""
        said = self._asking.map(lambda number: self._ask(number, "readiness"), self._board.numbers)
        return {f"process-{number}": _part(one) for number, one in zip(self._board.numbers, said, strict=True)}

    def loops(self) -> Sequence[Standing]:
        """Of the process above them, and of each process the loops that hang."""
        still_s = self._board.still_s
        above = Standing("supervisor", still_s, _SUPERVISOR_S - still_s)
        found = self._asking.map(self._loops, self._board.numbers)
        return [above, *(one for process in found for one in process)]

    def _loops(self, number: int) -> list[Standing]:
        said = self._ask(number, "liveness")
        if said is not None:
            self._heard[number] = monotonic()
        still_s = monotonic() - self._heard[number]
        own = Standing(f"process-{number}", still_s, self._hang_after_s - still_s)
        stills = (said or {}).get("still_s", {})
        return [
            own,
            *(Standing(f"process-{number} {name}", stills[name], -1.0) for name in (said or {}).get("hanging", ())),
        ]

    def _ask(self, number: int, what: str) -> dict[str, Any] | None:
        """What it says; empty: it is being started; None: it does not answer."""
        port = self._board.port(number)
        if not port:
            return {}
        try:
            found: dict[str, Any] = json.loads(_read(port, f"/health/{what}"))
        except ConnectionRefusedError:
            return {}
        except (OSError, HTTPException, ValueError):
            return None
        return found

    def metrics(self, headers: Headers) -> Answer:
        """Of all processes together."""
        for _ in self._asking.map(self._hear, self._board.numbers):
            pass
        return Answer(200, *self._merged.render(headers["Accept"]))

    def _hear(self, number: int) -> None:
        port = self._board.port(number)
        try:
            self._merged.hear(number, port, _read(port, "/metrics").decode())
        except (OSError, HTTPException):
            self._merged.forget_gauges(number)


def _read(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _part(said: Mapping[str, Any] | None) -> Part:
    if said is None:
        return Part(False, "does not answer")
    if not said:
        return Part(False, "it is starting, or was drained")
    missing = [f"{name}: {part['detail']}" for name, part in said["parts"].items() if not part["ok"]]
    return Part(said["status"] == "ready", "; ".join([said["status"].replace("_", " "), *missing]))


def answer_for_all(settings: Settings, board: Board, manager: Manager | None) -> int:
    """What the process beside them runs, until the one above ends it: it answers while the others stop."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    together = Together(board, settings.hang_after.total_seconds())
    with exit_with_message():
        more = {"/metrics": together.metrics}
        health.begin("workers", settings.health_address, together, more, loops=together.loops, manager=manager)
    above = os.getppid()
    while os.getppid() == above:
        time.sleep(_PATIENCE_S)
    return 0
