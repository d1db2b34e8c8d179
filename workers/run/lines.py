"""What a handler prints and logs, until it is written down: the first megabyte and the last one, lines numbered."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from orchestrator.core.facts import Lease

HEAD_BYTES: Final = 1024 * 1024
TAIL_BYTES: Final = 1024 * 1024
"""So much is kept of an attempt from its beginning, and from its end."""
LINE: Final = 10_000
"""Characters of a line; the rest is cut."""
_OVERHEAD: Final = 40
"""Bytes that a line takes besides its text."""


@dataclass(frozen=True, slots=True)
class Line:
    """`number` counts the lines of the attempt from 1, those that are not kept, too."""

    number: int
    at: datetime
    level: str
    text: str

    @property
    def size(self) -> int:
        return len(self.text.encode("utf-8", "replace")) + _OVERHEAD


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to write, without a gap between them."""

    lines: tuple[Line, ...]
    tail: bool

    @property
    def first(self) -> int:
        return self.lines[0].number

    @property
    def size(self) -> int:
        return sum(line.size for line in self.lines)


class Lines:
    """Of one attempt. Any thread of the handler may add; another one takes what is to be written."""

    def __init__(self, lease: Lease, scrub: Callable[[str], str], changed: Callable[["Lines"], None]) -> None:
        """`scrub` takes secrets out of a text; `changed` is told of the first line after each take."""
        self.lease = lease
        self.scrub = scrub
        self.written: deque[tuple[int, int]] = deque()
        """The batches of the tail that are in the ledger: the number of the first line, and their bytes."""
        self._changed = changed
        self._lock = threading.Lock()
        self._count = 0
        self._head: list[Line] = []
        self._head_left = HEAD_BYTES
        self._tail: deque[Line] = deque()
        self._tail_bytes = 0
        self._partial = ""

    @property
    def key(self) -> tuple[UUID, str, int]:
        return self.lease.run_id, self.lease.step_key, self.lease.attempt

    def add(self, level: str, text: str) -> None:
        """A line, or several."""
        for one in text.splitlines() or [""]:
            self._add(level, one)

    def write(self, text: str) -> None:
        """What was printed: the part behind the last line break waits for the rest of its line."""
        with self._lock:
            *whole, rest = (self._partial + text).split("\n")
            if len(rest) > LINE:
                whole, rest = [*whole, rest], ""
            self._partial = rest
        for one in whole:
            self._add("PRINT", one)

    def close(self) -> None:
        """Nothing is added any more."""
        with self._lock:
            rest, self._partial = self._partial, ""
        if rest:
            self._add("PRINT", rest)

    def _add(self, level: str, text: str) -> None:
        with self._lock:
            self._count += 1
            line = Line(self._count, datetime.now(UTC), level, text[:LINE])
            first = not self._head and not self._tail
            if self._head_left > 0:
                self._head.append(line)
                self._head_left -= line.size
            else:
                self._tail.append(line)
                self._tail_bytes += line.size
                while self._tail_bytes > TAIL_BYTES:
                    self._tail_bytes -= self._tail.popleft().size
        if first:
            self._changed(self)

    def take(self) -> list[Batch]:
        """What was added since the last take, and is still kept."""
        with self._lock:
            head, tail = tuple(self._head), tuple(self._tail)
            self._head, self._tail, self._tail_bytes = [], deque(), 0
        return [Batch(lines, tail=is_tail) for lines, is_tail in ((head, False), (tail, True)) if lines]
