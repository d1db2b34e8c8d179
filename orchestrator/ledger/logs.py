"""What handlers logged and printed, in batches of lines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class NewLines:
    """A batch to write. `lines` is JSON text; `dropped`: the batches that make room for it, by their first lines."""

    run_id: UUID
    step_key: str
    attempt: int
    first: int
    lines: str
    dropped: Sequence[int] = ()

    def as_json(self) -> str:
        facts = {"run_id": str(self.run_id), "step_key": self.step_key, "attempt": self.attempt, "first": self.first}
        return f'{json.dumps({**facts, "dropped": list(self.dropped)})[:-1]}, "lines": {self.lines}}}'


class Place(NamedTuple):
    """Where a batch stands: its step, its attempt and the number of its first line."""

    step_key: str
    attempt: int
    first: int


BEGIN = Place("", 0, 0)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of an attempt. `number` counts from 1; where one is missing, lines between the first and the last
    megabyte are not kept. `level` is that of the logging module, or `PRINT`. `place`: of its batch."""

    step_key: str
    attempt: int
    number: int
    at: datetime
    level: str
    text: str
    place: Place


def write(ledger: Ledger, batches: Sequence[NewLines]) -> None:
    """Write them down; what is there already stays."""
    text = f"[{', '.join(batch.as_json() for batch in batches)}]"
    ledger.retry(lambda tx: run(tx, "write_logs", batches=text))


def read(
    ledger: Ledger, run_id: UUID, step_key: str | None = None, *, after: Place = BEGIN, limit: int = 100
) -> list[LogLine]:
    """The lines of the next `limit` batches behind a place, by step, attempt and number. None: there are no more."""
    about = {"after_step": after.step_key, "after_attempt": after.attempt, "after_first": after.first}
    with ledger.auto() as tx:
        rows = run(tx, "log_batches", run_id=run_id, step_key=step_key, limit=limit, **about).all()
    return [line for row in rows for line in _lines(row)]


def places(ledger: Ledger, run_id: UUID, step_key: str | None = None) -> list[Place]:
    """Of all batches, in the order in which they were written."""
    with ledger.auto() as tx:
        return [
            Place(row.step_key, row.attempt, row.first)
            for row in run(tx, "log_places", run_id=run_id, step_key=step_key)
        ]


def _lines(row: Any) -> list[LogLine]:
    place = Place(row.step_key, row.attempt, row.first)
    return [
        LogLine(row.step_key, row.attempt, row.first + n, datetime.fromisoformat(at), level, text, place)
        for n, (at, level, text) in enumerate(row.lines)
    ]
