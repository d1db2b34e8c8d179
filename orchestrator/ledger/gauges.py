"""How the ledger stands, in numbers, for the exporter. Each is one statement, and reads live rows by their index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from orchestrator.ledger.rows import one, run
from orchestrator.ledger.schema import metadata

_TABLES: Final = sorted(metadata.tables)


@dataclass(frozen=True, slots=True)
class OpenRuns:
    """Of one flow with one status, as people see it; `oldest_s`: since the oldest of them was accepted."""

    flow: str
    status: str
    runs: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Queue:
    """Steps of a queue. `unserved`: ready ones that no live worker takes. `due`: their pause is over, and no keeper has
    made them ready. `oldest_s`: how long the oldest ready one has waited; 0: none is ready."""

    queue: str
    ready: int
    unserved: int
    running: int
    due: int
    oldest_s: float
    workers: int


@dataclass(frozen=True, slots=True)
class Workers:
    """Live ones that take from the same queues: `queues` has their names in order, with commas. `deaf`: those that take
    no messages."""

    queues: str
    live: int
    slots: int
    busy: int
    deaf: int


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late a schedule is that fires; 0: its next tick lies ahead."""

    flow: str
    trigger: str
    late_s: float


@dataclass(frozen=True, slots=True)
class Sessions:
    """`connections` of the server, all its databases together, and how many it lets in at `most`."""

    connections: int
    most: int


@dataclass(frozen=True, slots=True)
class Notifications:
    """Those that were not delivered yet. `oldest_s`: since the oldest of them was made; 0: there is none."""

    pending: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Size:
    """Of a table with its indexes, in bytes. `rows` are those that were estimated last."""

    table: str
    rows: float
    bytes: int


def open_runs(tx: Connection) -> Sequence[OpenRuns]:
    """By flow and status."""
    return [OpenRuns(*tuple(row)) for row in run(tx, "gauge_runs")]


def queues(tx: Connection, worker_ttl: timedelta) -> Sequence[Queue]:
    """Those that have steps or live workers."""
    return [Queue(*tuple(row)) for row in run(tx, "gauge_queues", ttl=worker_ttl)]


def workers(tx: Connection, worker_ttl: timedelta) -> Sequence[Workers]:
    """By the set of their queues."""
    return [Workers(*tuple(row)) for row in run(tx, "gauge_workers", ttl=worker_ttl)]


def schedules(tx: Connection) -> Sequence[Lateness]:
    """Every one that fires."""
    return [Lateness(*tuple(row)) for row in run(tx, "gauge_schedules")]


def sessions(tx: Connection) -> Sessions:
    """Of the whole server."""
    return Sessions(*tuple(run(tx, "gauge_sessions").one()))


def notifications(tx: Connection) -> Notifications:
    """Of all subscriptions."""
    return Notifications(*tuple(run(tx, "gauge_notifications").one()))


def sizes(tx: Connection) -> Sequence[Size]:
    """Of the ledger's tables."""
    return [Size(*tuple(row)) for row in run(tx, "gauge_sizes", tables=_TABLES)]


def database_bytes(tx: Connection) -> int:
    """Of the whole database."""
    return int(run(tx, "gauge_database").scalar_one())


def oldest_ended_s(tx: Connection) -> float | None:
    """Since the oldest run ended that retention may remove; None: there is none."""
    row = one(tx, "gauge_oldest_ended")
    return None if row is None else row.age_s


def proven_s(tx: Connection, kinds: Sequence[str]) -> Mapping[str, float]:
    """Since each kind of evidence was last recorded as good, in seconds; one that never was is left out."""
    return {row.kind: row.age_s for row in run(tx, "gauge_evidence", kinds=list(kinds))}
