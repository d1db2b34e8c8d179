"""Writes down what handlers logged and printed: behind the completion of their steps, and never in its way."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from orchestrator.core.facts import Lease
from orchestrator.ledger import logs
from orchestrator.ledger.logs import NewLines
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log
from orchestrator.settings import Settings
from orchestrator.workers.run.lines import TAIL_BYTES, Batch, Lines
from orchestrator.workers.run.outage import reason

_EVERY_S: Final = 0.5
_PAGE: Final = 200
"""Attempts in one statement."""
_MOST: Final = 2000
"""Attempts whose lines wait to be written; beyond, those of the oldest are lost: the database is away."""
_LAST_S: Final = 3.0


class LogWriter:
    """One daemon thread and one connection, both made when the first line is logged."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger: Ledger | None = None
        self._waiting: dict[int, Lines] = {}
        self._late: list[tuple[Lines, Batch]] = []
        """What could not be written, for the next time."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def lines(self, lease: Lease, scrub: Callable[[str], str]) -> Lines:
        """Where the handler's lines go."""
        return Lines(lease, scrub, self._changed)

    def _changed(self, lines: Lines) -> None:
        with self._lock:
            self._waiting[id(lines)] = lines
            while len(self._waiting) > _MOST:
                del self._waiting[next(iter(self._waiting))]
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="step logs", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """What is there is written first, if the database takes it soon."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_LAST_S)
        if self._ledger is not None:
            self._ledger.close()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.write_all()
        self.write_all()

    def write_all(self) -> None:
        """All that waits, unless the database refuses: then it waits on."""
        while True:
            with self._lock:
                taken = [self._waiting.pop(key) for key in list(self._waiting)[:_PAGE]]
            batches = self._late + [(lines, batch) for lines in taken for batch in lines.take()]
            self._late = []
            if not batches:
                return
            try:
                self._write(batches)
                self._failing = False
            except Exception as exc:
                self._late = batches[-_PAGE:]
                if not self._failing:
                    log.warning("step_logs.failing", extra={"error": reason(exc)})
                self._failing = True
                return

    def _write(self, batches: list[tuple[Lines, Batch]]) -> None:
        new = [
            NewLines(*lines.key, batch.first, _text(lines, batch), _dropped(lines, batch)) for lines, batch in batches
        ]
        if self._ledger is None:
            self._ledger = Ledger.connect(
                self._settings.require_database_url(),
                reach=self._settings.reach(),
                pool_size=1,
                statement_timeout=min(self._settings.statement_timeout, timedelta(seconds=10)),
                name="orchestrator step logs",
            )
        logs.write(self._ledger, new)
        for lines, batch in batches:
            if batch.tail:
                gone = set(_dropped(lines, batch))
                kept = [one for one in lines.written if one[0] not in gone and one[0] != batch.first]
                lines.written.clear()
                lines.written.extend([*kept, (batch.first, batch.size)])


def _new(lines: Lines, batch: Batch) -> NewLines:
    return NewLines(*lines.key, batch.first, _text(lines, batch), _dropped(lines, batch))


def _text(lines: Lines, batch: Batch) -> str:
    found = [[line.at.isoformat(), line.level, _storable(lines.scrub(line.text))] for line in batch.lines]
    return json.dumps(found)


def _storable(text: str) -> str:
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def _dropped(lines: Lines, batch: Batch) -> list[int]:
    """The batches of the tail that make room for this one."""
    if not batch.tail:
        return []
    left, gone = TAIL_BYTES - batch.size, []
    for first, size in reversed(lines.written):
        left -= size
        if left < 0 and first != batch.first:
            gone.append(first)
    return gone
