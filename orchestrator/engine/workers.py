"""The worker registry: which workers there are, and what they can run."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row

from orchestrator.core.access import Act, Actor
from orchestrator.core.facts import WorkerInfo
from orchestrator.errors import Conflict, WorkerNotFound
from orchestrator.ledger import access, workers
from orchestrator.ledger.tx import Ledger
from orchestrator.ledger.workers import Seen, Target


def hello(ledger: Ledger, info: WorkerInfo) -> None:
    """A worker process introduces itself."""
    ledger.retry(lambda tx: workers.hello(tx, info))


def seen(ledger: Ledger, worker_id: str, *, consuming: bool, stopping: bool = False) -> Seen | None:
    """It is still there; `consuming` when its probe came back, `stopping` when it was told to stop: what it leaves
    behind then does not count as a crash. None: say hello again."""
    with ledger.auto() as tx:
        return workers.seen(tx, worker_id, consuming=consuming, stopping=stopping)


def refuse(ledger: Ledger, worker_id: str, pair: str, why: str) -> None:
    """It does not take steps of a task in one version of its flow (`task@manifest hash`): its code does not fit."""
    with ledger.auto() as tx:
        workers.refuse(tx, worker_id, pair, why)


def gone(ledger: Ledger, worker_id: str) -> None:
    """It stopped."""
    ledger.retry(lambda tx: workers.gone(tx, worker_id))


def drain(ledger: Ledger, target: Target, by: Actor, worker_ttl: timedelta) -> tuple[str, ...]:
    """Tell live processes to stop; the ids of all that are meant. Each stops when it next says that it is there, as at
    SIGTERM.

    Raises:
        WorkerNotFound: none is called so.
    """

    def work(tx: Connection) -> tuple[str, ...]:
        ids = tuple(row.id for row in _meant(tx, target, worker_ttl))
        workers.drain(tx, ids, by.name)
        access.audit(tx, by, Act("worker.drain", f"worker/{target.name}", became={"workers": list(ids)}))
        return ids

    return ledger.retry(work)


def undrain(ledger: Ledger, target: Target, by: Actor, worker_ttl: timedelta) -> tuple[str, ...]:
    """Take that back, for those that have not begun to stop; their ids.

    Raises:
        WorkerNotFound: none is called so.
        Conflict: all that were told to stop have begun.
    """

    def work(tx: Connection) -> tuple[str, ...]:
        rows = _meant(tx, target, worker_ttl)
        ids = tuple(row.id for row in rows if row.stopping_at is None)
        if not ids:
            raise Conflict(
                f"Every worker that is called {target.name!r} is stopping already. Fix: start new ones; what they run "
                "is finished, or handed back."
            )
        workers.undrain(tx, ids)
        access.audit(tx, by, Act("worker.undrain", f"worker/{target.name}", became={"workers": list(ids)}))
        return ids

    return ledger.retry(work)


def _meant(tx: Connection, target: Target, worker_ttl: timedelta) -> Sequence[Row[Any]]:
    rows = workers.meant(tx, target, worker_ttl)
    if not rows:
        raise WorkerNotFound(
            f"No live worker is called {target.name!r}. Fix: give an id, a host or a release that "
            "`orchestrator worker ls` lists, or a scaling group.",
            target=target.name,
        )
    return rows
