"""Worker processes, and what waits for one."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger

TTL = timedelta(seconds=30)


def every(ledger: Ledger, ttl: timedelta = TTL) -> list[WorkerRow]:
    """Every known worker process."""
    with ledger.auto() as tx:
        return [_worker_row(row) for row in run(tx, "workers", ttl=ttl)]


def _worker_row(row: Row[Any]) -> WorkerRow:
    facts = {**row._mapping, "queues": tuple(row.queues), "handlers": tuple(row.handlers)}
    return WorkerRow(**facts)


def unserved(ledger: Ledger, ttl: timedelta = TTL) -> Sequence[UnservedRow]:
    """Tasks whose ready steps no live worker can run."""
    with ledger.auto() as tx:
        return [UnservedRow(*tuple(row)) for row in run(tx, "unserved", ttl=ttl)]
