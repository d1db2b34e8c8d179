"""What happened in all runs, told once and in an order that loses nothing. Why not by id: `sql/stream.sql`."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import JsonValue

from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions had ended at a moment: those below `high` but for the `open` ones. All are below `low`."""

    low: int
    high: int
    open: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """PostgreSQL's `low:high:open,open`."""
        low, high, open_ = text.split(":")
        return cls(int(low), int(high), frozenset(int(one) for one in open_.split(",") if one))

    def text(self) -> str:
        """The same, as PostgreSQL has it."""
        return f"{self.low}:{self.high}:{','.join(map(str, sorted(self.open)))}"

    def up_to(self, tx: int) -> Self:
        """As much of it as a crash of the server cannot take back, where `tx` is the last transaction that is known to
        have been committed: those after it may have left nothing on the disk, and their numbers are given again then.
        """
        high = min(self.high, tx + 1)
        return type(self)(min(self.low, high), high, frozenset(one for one in self.open if one < high))


@dataclass(frozen=True, slots=True)
class Told:
    """An event. `flow` is None for what happened to a flow or a schedule itself; `run_id` names that then."""

    tx: int
    id: int
    run_id: UUID
    flow: str | None
    at: datetime
    type: str
    step_key: str | None
    attempt: int | None
    facts: JsonValue


def now(ledger: Ledger) -> Snapshot:
    """The transactions of this moment."""
    with ledger.auto() as tx:
        return Snapshot.parse(run(tx, "snapshot").scalar_one())


def last(ledger: Ledger) -> int:
    """The last transaction of which there is an event; 0: there is none."""
    with ledger.auto() as tx:
        return int(run(tx, "last_told").scalar_one())


def since(ledger: Ledger, place: tuple[int, int], until: Snapshot, limit: int) -> list[Told]:
    """A page of events after a place, which is a transaction and the last known event of it; by transaction and id. All
    had ended at `until`; whatever had not is left out, and to be asked for by `ended`."""
    with ledger.auto() as tx:
        found = run(
            tx, "told_since", tx=place[0], after=place[1], high=until.high, open=sorted(until.open), limit=limit
        )
        return _told(found)


def ended(ledger: Ledger, before: Snapshot, until: Snapshot) -> list[Told]:
    """Events of transactions that were open before, and have ended until then."""
    over = sorted(before.open - until.open)
    if not over:
        return []
    with ledger.auto() as tx:
        return _told(run(tx, "told_by", ended=over))


def forget_foreign(ledger: Ledger, page: int = 5_000) -> int:
    """After a ledger was copied from another server: no event of its is told as new when the transactions of this one
    come to the same numbers. Returns how many those were."""
    forgotten = 0
    while True:
        with ledger.auto() as tx:
            done = len(run(tx, "forget_foreign", page=page).all())
        forgotten += done
        if done < page:
            return forgotten


def _told(rows: Iterable[Any]) -> list[Told]:
    return [Told(*row) for row in rows]
