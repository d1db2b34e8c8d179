"""Worker processes."""

from dataclasses import asdict

from sqlalchemy import Connection

from orchestrator.core.facts import WorkerInfo
from orchestrator.ledger.rows import one, run


def hello(tx: Connection, info: WorkerInfo) -> None:
    """Insert or refresh the worker's row; forget workers long dead."""
    facts = asdict(info)
    run(tx, "hello", **{**facts, "queues": list(info.queues), "handlers": list(info.handlers)})
    run(tx, "bury")


def seen(tx: Connection, worker_id: str, consuming: bool) -> bool:
    """Refresh; False when the row is gone."""
    return one(tx, "seen", id=worker_id, consuming=consuming) is not None


def gone(tx: Connection, worker_id: str) -> None:
    """Remove the worker's row."""
    run(tx, "gone", id=worker_id)
