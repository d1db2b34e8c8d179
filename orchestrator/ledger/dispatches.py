"""Dispatch rows as an outbox: what should be in the broker, and what may have been lost there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch
from orchestrator.ledger.rows import dispatches, run

WINDOW: Final = 10_000
"""So many steps of a list are counted, or looked at, in every sweep; of a longer one the oldest."""


def outstanding(tx: Connection, most: int | None) -> dict[tuple[str, int], int]:
    """Ready steps by queue and priority; at most `most` of each are counted, or all."""
    return {(row.queue, row.priority): row.ready for row in run(tx, "outstanding", most=most)}


def outstanding_in_all(tx: Connection) -> dict[tuple[str, int], int]:
    """The same, to the last one. It reads the whole backlog and may take its time."""
    run(tx, "take_time")
    return outstanding(tx, most=None)


class Patience(NamedTuple):
    """How long a message is waited for: `after` its last publication, `unpublished_after` its commit when none is
    known. A worker that was not seen for `worker_ttl` does not count."""

    after: timedelta
    unpublished_after: timedelta
    worker_ttl: timedelta


@dataclass(frozen=True, slots=True)
class Search:
    """A list that lacks `missing` messages, and how far it was searched: steps that became ready until `begin` were
    looked at; None: none was."""

    queue: str
    priorities: Sequence[int]
    missing: int
    begin: datetime | None = None


class Lost(NamedTuple):
    """What a look at some of a list found: messages to send again; `begin` for the look at what is behind, None at the
    end of the list."""

    dispatches: tuple[Dispatch, ...] = ()
    begin: datetime | None = None


def lost(tx: Connection, search: Search, patience: Patience) -> Lost:
    """The oldest dispatches, among the next `WINDOW` steps of a list, whose message is suspected lost, noted as
    published again."""
    asked = {**asdict(search), "priorities": list(search.priorities), **patience._asdict()}
    *found, last = run(tx, "lost", window=WINDOW, **asked).all()
    return Lost(dispatches([tuple(row)[:6] for row in found]), last.begin)


def wake(tx: Connection, worker_id: str, page: int, worker_ttl: timedelta) -> tuple[Dispatch, ...]:
    """Dispatches that waited for the code of a worker that has just come, noted as published again."""
    rows = run(tx, "wake", id=worker_id, page=page, window=WINDOW, worker_ttl=worker_ttl)
    return dispatches(rows.all())


def confirm(tx: Connection, published: Sequence[Dispatch]) -> None:
    """The broker took the first message of each."""
    run(
        tx,
        "confirm",
        run_ids=[each.run_id for each in published],
        step_keys=[each.step_key for each in published],
        numbers=[each.number for each in published],
    )
