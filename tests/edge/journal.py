"""What clients ask over HTTP and what they are told: a line before each request, and one after its answer."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.proof.recorder import write_line
from tests.support.lines import whole_lines

Kind = Literal["start", "batch", "deliver"]
Fate = Literal["answered", "cut", "unreachable"]


@dataclass(frozen=True)
class Exchange:
    """A request, and what became of it. `cut`: it was sent, and the connection ended without an answer, or the client
    did. `unreachable`: there was nobody to send it to."""

    kind: Kind
    facts: Mapping[str, Any]
    """What the client noted of its request."""
    begun_ns: int
    ended_ns: int
    fate: Fate = "cut"
    status: int = 0
    retry_after: str | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def taken(self) -> bool:
        return self.fate == "answered" and 200 <= self.status < 300


class Journal:
    """In a file, each line written whole: it is there whatever becomes of its writer."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._numbers = itertools.count(1)

    def asks(self, kind: Kind, facts: Mapping[str, Any]) -> int:
        """Its number."""
        number = next(self._numbers)
        write_line(self._path, n=number, what=kind, facts=facts)
        return number

    def told(
        self,
        number: int,
        fate: Fate,
        status: int = 0,
        retry_after: str | None = None,
        answer: Mapping[str, Any] | None = None,
    ) -> None:
        write_line(
            self._path, n=number, what="told", fate=fate, status=status, retry_after=retry_after, answer=answer or {}
        )


def read(path: Path) -> list[Exchange]:
    """In the order in which they were asked."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in whole_lines(path)]
    told = {line["n"]: line for line in lines if line["what"] == "told"}
    last = max((line["ns"] for line in lines), default=0)
    return [*_exchanges(lines, told, last)]


def _exchanges(lines: list[dict[str, Any]], told: Mapping[int, Mapping[str, Any]], last_ns: int) -> Iterator[Exchange]:
    for line in lines:
        if line["what"] == "told":
            continue
        said = told.get(line["n"])
        if said is None:
            yield Exchange(line["what"], line["facts"], line["ns"], last_ns)
            continue
        yield Exchange(
            line["what"],
            line["facts"],
            line["ns"],
            said["ns"],
            said["fate"],
            said["status"],
            said["retry_after"],
            said["answer"],
        )
