"""Decide what is due: tick rows, runs and their first dispatches in one commit."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from orchestrator.core.facts import Dispatch
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Fired:
    """What a page led to; the dispatches are for the caller to publish. `more`: call again."""

    decided: int = 0
    started: tuple[UUID, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()
    doubles: int = 0
    more: bool = False


def fire(
    ledger: Ledger,
    *,
    by: str,
    flow: str | None = None,
    key: str | None = None,
    hint: datetime | None = None,
    late: timedelta = timedelta(0),
    page: int = 100,
) -> Fired:
    """Decide the ticks that are due (`due_at <= flow_now() - late`), at most of `page` schedules: publish, then call
    again while `more`.

    With `flow` and `key`: of that schedule only. Any number of processes may call at once; each tick is decided once.
    """
    raise NotImplementedError


def next_due(ledger: Ledger) -> float | None:
    """Seconds until the next tick is due, negative when it is; None when none is."""
    raise NotImplementedError


def waiting(ledger: Ledger, page: int = 100) -> Fired:
    """Start queued ticks whose predecessor ended, and the next ticks of backfills; call again while `more`."""
    raise NotImplementedError
