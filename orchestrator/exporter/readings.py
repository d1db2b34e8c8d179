"""What the exporter looks at, each with the gauges that it sets."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import redis
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.core.scaling import Group, needed
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import gauges, scaling
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.metrics import table
from orchestrator.observe.metrics.instruments import OTHER
from orchestrator.observe.metrics.metric import Metric
from orchestrator.servers import redbeat
from orchestrator.settings import Settings

Values = Mapping[tuple[str, ...], float]
"""By the values of a gauge's labels."""
Read = Callable[[Connection], Mapping[Metric, Values]]
OFTEN_S: Final = 10.0
SELDOM_S: Final = 3600.0
"""Sizes are looked up file by file, and move slowly."""
MOST_FLOWS: Final = 200
"""Sets of labels of one gauge of runs. With schedules they leave half of the room to queues and workers."""
MOST_SCHEDULES: Final = 500
_EVIDENCE: Final = MappingProxyType({"backup": table.BACKUP_AGE, "drill": table.DRILL_AGE})
FAILURES: Final = (SQLAlchemyError, redis.RedisError, OSError, OrchestratorError)
"""What a reading may raise: a server is away, slow, or refuses."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. What it found is shown for `every_s`, and as long after as the look fails. One that `may_lag` is read
    from a standby, where there is one: those that cost something."""

    name: str
    read: Read
    every_s: float = OFTEN_S
    may_lag: bool = False


def readings(settings: Settings, ledger: Ledger) -> Sequence[Reading]:
    """Those that these settings allow: without a broker, nobody knows of a beat."""
    ttl = settings.worker_ttl
    found = [
        Reading("runs", _runs, may_lag=True),
        Reading("queues", lambda tx: _queues(gauges.queues(tx, ttl))),
        Reading("workers", lambda tx: _workers(gauges.workers(tx, ttl))),
        Reading("schedules", lambda tx: {table.CRON_LAG: lateness(gauges.schedules(tx))}),
        Reading("notifications", _notifications),
        Reading("sessions", _sessions),
        Reading("ended", lambda tx: _ended(tx, settings), may_lag=True),
        Reading("sizes", lambda tx: _sizes(tx, settings), SELDOM_S, may_lag=True),
        Reading("evidence", _evidence),
    ]
    if groups := settings.scaling_groups:
        found.append(Reading("scaling", lambda tx: {table.SCALING_REPLICAS: _replicas(ledger, tx, groups)}))
    if settings.broker_url is not None or settings.redbeat_url is not None:
        found.append(Reading("beat", lambda _: {table.BEATS_LIVE: {(): _beats(settings)}}))
    return found


def _runs(tx: Connection) -> Mapping[Metric, Values]:
    found = gauges.open_runs(tx)
    return {
        table.RUNS_ACTIVE: of_most_flows({(one.flow, one.status): one.runs for one in found}, MOST_FLOWS, operator.add),
        table.RUNS_OLDEST_ACTIVE: of_most_flows(
            {(one.flow, one.status): one.oldest_s for one in found}, MOST_FLOWS, max
        ),
    }


def _queues(found: Sequence[gauges.Queue]) -> Mapping[Metric, Values]:
    by_state: Values = {
        (one.queue, state): getattr(one, state) for one in found for state in ("ready", "running", "due")
    }
    return {
        table.QUEUE_DEPTH: by_state,
        table.QUEUE_OLDEST_READY: {(one.queue,): one.oldest_s for one in found},
        table.QUEUE_UNSERVED: {(one.queue,): one.unserved for one in found},
        table.QUEUE_WORKERS: {(one.queue,): one.workers for one in found},
        table.LEASE_ACTIVE_COUNT: {(one.queue,): one.running for one in found},
    }


def _replicas(ledger: Ledger, tx: Connection, groups: Mapping[str, Group]) -> Values:
    return {(name,): needed(name, group, scaling.read(ledger, tx, group)).replicas for name, group in groups.items()}


def _workers(found: Sequence[gauges.Workers]) -> Mapping[Metric, Values]:
    return {
        table.WORKERS_LIVE: {(one.queues,): one.live for one in found},
        table.WORKERS_SLOTS: {(one.queues,): one.slots for one in found},
        table.WORKERS_SLOTS_BUSY: {(one.queues,): one.busy for one in found},
        table.WORKERS_DEAF: {(one.queues,): one.deaf for one in found},
    }


def lateness(found: Sequence[gauges.Lateness]) -> Values:
    """One by one; where they are too many for that, the worst of each flow."""
    if len(found) <= MOST_SCHEDULES:
        return {(one.flow, one.trigger): one.late_s for one in found}
    worst: dict[tuple[str, ...], float] = {}
    for one in found:
        key = (one.flow, OTHER)
        worst[key] = max(worst.get(key, 0.0), one.late_s)
    return of_most_flows(worst, MOST_SCHEDULES, max)


def of_most_flows(values: Values, most: int, together: Callable[[float, float], float]) -> Values:
    """The greatest values by their flow, which is the first label; those of all other flows `together`."""
    ranked = sorted(values.items(), key=lambda item: item[1], reverse=True)
    shown = dict(ranked[:most])
    for (_, *rest), value in ranked[most:]:
        key = (OTHER, *rest)
        shown[key] = together(shown[key], value) if key in shown else value
    return shown


def _notifications(tx: Connection) -> Mapping[Metric, Values]:
    found = gauges.notifications(tx)
    return {
        table.NOTIFICATIONS_PENDING: {(): found.pending},
        table.NOTIFICATIONS_OLDEST_PENDING: {(): found.oldest_s},
    }


def _sessions(tx: Connection) -> Mapping[Metric, Values]:
    found = gauges.sessions(tx)
    return {
        table.DATABASE_CONNECTIONS_USED: {(): found.connections},
        table.DATABASE_CONNECTIONS_LIMIT: {(): found.most},
    }


def _ended(tx: Connection, settings: Settings) -> Mapping[Metric, Values]:
    oldest_s = gauges.oldest_ended_s(tx)
    kept: Values = {} if settings.retention is None else {(): settings.retention.total_seconds()}
    return {
        table.LEDGER_OLDEST_ENDED: {} if oldest_s is None else {(): oldest_s},
        table.LEDGER_RETENTION: kept,
    }


def _evidence(tx: Connection) -> Mapping[Metric, Values]:
    ages = gauges.proven_s(tx, list(_EVIDENCE))
    return {metric: {(): ages[kind]} if kind in ages else {} for kind, metric in _EVIDENCE.items()}


def _sizes(tx: Connection, settings: Settings) -> Mapping[Metric, Values]:
    found = gauges.sizes(tx)
    room = settings.database_disk
    return {
        table.DATABASE_SIZE_LIMIT: {} if room is None else {(): room},
        table.LEDGER_ROWS: {(one.table,): one.rows for one in found},
        table.LEDGER_BYTES: {(one.table,): one.bytes for one in found},
        table.DATABASE_SIZE: {(): gauges.database_bytes(tx)},
    }


def _beats(settings: Settings) -> int:
    with redbeat.client(settings) as client:
        return int(client.exists(redbeat.lock_key(settings)))
