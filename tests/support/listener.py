"""Reads the stream of events in a thread."""

import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any, Final

import httpx2

from tests.support.eventually import eventually

STREAM: Final = "/api/events/stream"
_AGAIN_S: Final = 0.1


@dataclass
class Listener:
    """Comes back where it was when it is cut off, to the next of `urls`."""

    urls: Sequence[str]
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    found: list[tuple[str, str, Any]] = field(default_factory=list)
    """Type, place and data of each event."""
    lines: list[str] = field(default_factory=list)
    cursor: str | None = None
    since_ns: int = 0
    """When it was let in for the first time."""
    ended: int = 0
    response: Any = None
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Listener":
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()
        eventually(lambda: self.cursor is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._thread.join(30)

    def leave(self) -> None:
        """It does not come back."""
        self._over.set()
        self.cut()

    def cut(self) -> None:
        """End the connection from here."""
        if self.response is not None:
            with suppress(OSError):  # it has ended already
                self.response.extensions["network_stream"].get_extra_info("socket").shutdown(2)

    def _run(self) -> None:
        for url in itertools.cycle(self.urls):
            if self._over.is_set():
                return
            headers = {**self.headers, **({"Last-Event-ID": self.cursor} if self.cursor else {})}
            try:
                with httpx2.stream("GET", url + STREAM, params=self.params, headers=headers, timeout=60) as answer:
                    self.response = answer
                    self._read(answer)
            except httpx2.HTTPError:
                self._over.wait(_AGAIN_S)
            self.ended += 1

    def _read(self, answer: httpx2.Response) -> None:
        event, id_, data = "", "", ""
        for line in answer.iter_lines():
            self.lines.append(line)
            name, _, value = line.partition(": ")
            match name:
                case "event":
                    event = value
                case "id":
                    id_ = value
                case "data":
                    data = value
                case "" if event:
                    self.found.append((event, id_, json.loads(data)))
                    self.since_ns = self.since_ns or monotonic_ns()
                    self.cursor, event = id_, ""

    @property
    def events(self) -> list[dict[str, Any]]:
        return [data for event, _, data in self.found if event not in {"open", "resync"}]

    @property
    def types(self) -> list[str]:
        return [event for event, _, _ in self.found]
