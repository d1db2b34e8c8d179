"""Worker processes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row

from orchestrator.core.facts import WorkerInfo
from orchestrator.ledger.rows import one, run, under


def hello(tx: Connection, info: WorkerInfo) -> None:
    """Insert or refresh the worker's row; forget workers long dead."""
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(info).items()}
    run(tx, "hello", **{**facts, "versions": json.dumps(info.versions), "refuses": json.dumps(info.refuses)})
    run(tx, "bury")


def refuse(tx: Connection, worker_id: str, pair: str, why: str) -> None:
    """Note that the worker does not take such steps."""
    run(tx, "refuse", id=worker_id, pair=pair, why=why)


@dataclass(frozen=True, slots=True)
class Seen:
    """`draining`: somebody told this process to stop."""

    draining: bool


def seen(tx: Connection, worker_id: str, *, consuming: bool, stopping: bool) -> Seen | None:
    """Refresh; None when the row is gone. Whoever hears here that it is to drain counts as stopping from now on."""
    row = one(tx, "seen", id=worker_id, consuming=consuming, stopping=stopping)
    return None if row is None else Seen(row.draining)


@dataclass(frozen=True, slots=True)
class Target:
    """Processes by what they are called: an id, a host, or the release of their code; and those that take from no other
    `queues` than these."""

    name: str
    queues: tuple[str, ...] = ()


def meant(tx: Connection, target: Target, worker_ttl: timedelta) -> Sequence[Row[Any]]:
    """Live processes, locked: id, drain_at, stopping_at."""
    return run(tx, "meant", target=target.name, queues=list(target.queues), ttl=worker_ttl).all()


def drain(tx: Connection, ids: Sequence[str], by: str) -> None:
    """Tell them to stop."""
    run(tx, "drain", ids=list(ids), by=by)


def undrain(tx: Connection, ids: Sequence[str]) -> None:
    """Tell those that have not begun to go on."""
    run(tx, "undrain", ids=list(ids))


def gone(tx: Connection, worker_id: str) -> None:
    """Remove the worker's row, unless claims are left that it was told to stop with."""
    run(tx, "gone", id=worker_id, prefix=under(worker_id))


@dataclass(frozen=True, slots=True)
class Lead:
    """`taken`: this transaction leads the keepers until it ends. `workers`: how many live ones there are."""

    taken: bool
    workers: int


def lead(tx: Connection, silent_s: float, worker_ttl: timedelta) -> Lead:
    """Try to lead. Then the transaction ends after `silent_s` without a statement."""
    row = run(tx, "lead", silent=f"{round(silent_s * 1000)}ms", ttl=worker_ttl).one()
    return Lead(row.leads, row.workers)


def still_leads(tx: Connection) -> None:
    """The leader's transaction is heard of. Raises when it was ended."""
    run(tx, "still_leads")
