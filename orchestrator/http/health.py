"""What the API says of itself and of what it needs: without addresses or passwords, for anybody may ask; versions are
for those who have a key.

Four probes look, each with connections of its own that are made for the look; the checks are judged by what they found.
"""

import asyncio
import platform
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar
from uuid import UUID

import redis
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.core.durations import format_duration
from orchestrator.core.release import release
from orchestrator.core.wording import counted
from orchestrator.errors import OrchestratorError
from orchestrator.ledger import health
from orchestrator.ledger.health import Facts
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.logs import log
from orchestrator.observe.probes import Answer, Probe
from orchestrator.servers import redbeat
from orchestrator.servers.diagnosis import one_line
from orchestrator.servers.redis_client import broker_client
from orchestrator.settings import Settings

T = TypeVar("T")


class State(StrEnum):
    """Of a check."""

    UP = "up"
    DOWN = "down"
    UNUSED = "unused"  # there is none, and nothing needs one


class Overall(StrEnum):
    """Of all: unhealthy without a database, degraded when anything else is down."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Check(BaseModel):
    """`detail` is for people, and may change. `latency_ms` is that of the look; null: there was no answer in time."""

    model_config = ConfigDict(frozen=True)

    status: State
    detail: str
    latency_ms: float | None


class Health(BaseModel):
    """How things stand."""

    model_config = ConfigDict(frozen=True)

    status: Overall
    timestamp: datetime
    checks: Mapping[str, Check]
    versions: Mapping[str, str] | None = None
    """Of what runs here, for those who have a key; null for all others."""


class Fault(str):
    """Why there is no answer, as anybody may read it."""


Judged = tuple[State, str]
_NOT_SET: Final = Fault("no broker is set")
_AWAY: Final = Fault("cannot be reached")
_FULL: Final = re.compile(r"too many (connections|clients)|remaining connection slots")
"""Whoever is refused at the door is told so in words: libpq passes no code on."""
_REDIS: Final = (redis.RedisError, OSError, OrchestratorError)


class Monitor:
    """Of one process. Nothing is opened before somebody asks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._budget_s = settings.health_budget.total_seconds()
        self._late = 2 * (settings.watchdog_interval + settings.tick_grace)
        self._ledger = Probe("health-ledger", self._look_at_ledger)
        self._broker = Probe("health-broker", self._look_at_broker)
        self._beat = Probe("health-beat", self._look_at_beat)
        self._store = Probe("health-store", self._look_at_store)

    async def database(self) -> Check:
        """Whether the ledger answers, and has the schema of this release."""
        return self._judged(await self._ledger.ask(self._budget_s), _of_database)

    async def all(self) -> Health:
        """Every check; within the budget, whatever hangs."""
        ledger, broker, beat, store = await asyncio.gather(
            self._ledger.ask(self._budget_s),
            self._broker.ask(self._budget_s),
            self._beat.ask(self._budget_s),
            self._store.ask(self._budget_s),
        )
        facts = ledger.found if ledger is not None and isinstance(ledger.found, Facts) else None
        checks = {
            "database": self._judged(ledger, _of_database),
            "broker": self._judged(broker, _of_broker),
            "workers": self._judged(ledger, _of_workers),
            "scheduler": self._judged(beat, lambda found: _of_scheduler(found, facts)),
            "payload_store": self._judged(store, lambda found: _of_store(found, facts)),
        }
        return Health(status=_overall(checks), timestamp=datetime.now(UTC), checks=checks, versions=_versions(facts))

    def _judged(self, answer: Answer[T | Fault] | None, judge: Callable[[T | Fault], Judged]) -> Check:
        late = Fault(f"no answer within {format_duration(self._settings.health_budget)}")
        status, detail = judge(late if answer is None else answer.found)
        return Check(
            status=status, detail=detail, latency_ms=None if answer is None else round(1000 * answer.took_s, 1)
        )

    def _look_at_ledger(self) -> Facts | Fault:
        settings = self._settings
        ledger = Ledger.connect(
            settings.require_database_url(),
            reach=settings.reach(),
            pool_size=1,
            statement_timeout=settings.health_budget,
            name="orchestrator health",
        )
        try:
            found = health.facts(ledger, settings.worker_ttl, self._late)
            return found if found is not None else Fault("the schema is not that of this release")
        except (SQLAlchemyError, OrchestratorError) as exc:
            _note("database", exc)
            return Fault("has no connection left") if _FULL.search(str(exc)) else _AWAY
        finally:
            ledger.close()

    def _look_at_broker(self) -> bool | Fault:
        if self._settings.broker_url is None:
            return _NOT_SET
        try:
            patience = {"socket_timeout": self._budget_s, "socket_connect_timeout": self._budget_s}
            with broker_client(self._settings, **patience) as client:
                return bool(client.ping())
        except _REDIS as exc:
            _note("broker", exc)
            return _AWAY

    def _look_at_beat(self) -> str | Fault | None:
        """Who announces ticks; None: nobody."""
        if self._settings.broker_url is None and self._settings.redbeat_url is None:
            return _NOT_SET
        try:
            with redbeat.client(self._settings) as client:
                found = client.get(redbeat.lock_key(self._settings))
                return None if found is None else str(found)
        except _REDIS as exc:
            _note("scheduler", exc)
            return _AWAY

    def _look_at_store(self) -> UUID | Fault | None:
        """Which one is there; None: none is set."""
        if self._settings.payload_store is None:
            return None
        try:
            return self._settings.payloads().mark() or Fault("has no mark")
        except OrchestratorError as exc:
            _note("payload_store", exc)
            return _AWAY


def _versions(facts: Facts | None) -> Mapping[str, str]:
    ours = {"orchestrator": release(), "python": platform.python_version()}
    return ours if facts is None else {**ours, "postgresql": facts.server, "schema": facts.schema}


def _note(check: str, exc: Exception) -> None:
    """For operators: what anybody may read names no server."""
    log.warning("health.down", extra={"check": check, "error": one_line(exc)[:500]})


def _overall(checks: Mapping[str, Check]) -> Overall:
    if checks["database"].status is State.DOWN:
        return Overall.UNHEALTHY
    down = any(check.status is State.DOWN for check in checks.values())
    return Overall.DEGRADED if down else Overall.HEALTHY


def _of_database(found: Facts | Fault) -> Judged:
    return (State.DOWN, str(found)) if isinstance(found, Fault) else (State.UP, "answers")


def _of_broker(found: bool | Fault) -> Judged:
    return (State.DOWN, str(found)) if isinstance(found, Fault) else (State.UP, "answers")


def _of_workers(found: Facts | Fault) -> Judged:
    if isinstance(found, Fault):
        return State.DOWN, "unknown without the database"
    if not found.workers and found.keepers:
        return State.UNUSED, f"no worker is live; time is kept by {counted(found.keepers, 'keeper')}"
    if not found.workers:
        return State.DOWN, "no worker is live"
    if found.deaf:
        return State.DOWN, f"{found.deaf} of {counted(found.workers, 'live worker')} take no messages"
    return State.UP, counted(found.workers, "live worker")


def _of_scheduler(found: str | Fault | None, facts: Facts | None) -> Judged:
    if facts is None:
        return State.DOWN, "unknown without the database"
    if not facts.schedules:
        return State.UNUSED, "no schedule fires"
    if facts.late:
        return State.DOWN, f"{facts.late} of {counted(facts.schedules, 'schedule')} late"
    if isinstance(found, Fault):
        return State.DOWN, f"its Redis: {found}"
    if found is None:
        return State.DOWN, f"no beat runs: workers fire {counted(facts.schedules, 'schedule')}, later"
    return State.UP, counted(facts.schedules, "schedule")


def _of_store(found: UUID | Fault | None, facts: Facts | None) -> Judged:
    if isinstance(found, Fault):
        return State.DOWN, str(found)
    expected = None if facts is None else facts.store
    if found is None:
        return (State.UNUSED, "none") if expected is None else (State.DOWN, "the ledger has one, and none is set here")
    if expected is not None and found != expected:
        return State.DOWN, "is another one than the ledger's"
    return State.UP, "answers"
