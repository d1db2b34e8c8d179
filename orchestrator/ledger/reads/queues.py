"""Queues, as the ledger has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.ledger.reads.workers import TTL
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue: steps that are `ready` on it, the oldest of them since `oldest`, steps that run, and the live workers
    that take from it."""

    queue: str
    ready: int
    oldest: datetime | None
    running: int
    workers: Sequence[str]


def every(ledger: Ledger, ttl: timedelta = TTL) -> list[QueueRow]:
    """Those that have steps or workers, by name."""
    with ledger.auto() as tx:
        return [QueueRow(*tuple(row)) for row in run(tx, "queues", ttl=ttl)]
