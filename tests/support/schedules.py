"""A flow with a schedule, in a lab whose clock stands where the test wants it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from orchestrator.core.manifest import Manifest
from orchestrator.core.schedule_ids import schedule_id
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.engine.schedules.tick import AnnouncedResult
from orchestrator.ledger import reads, schedules
from orchestrator.ledger.schedules import ScheduleRow, TickRow
from tests.support.factories import Lab, call

NOON = datetime(2040, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOURLY = {"type": "cron", "expression": "0 * * * *"}
MINUTELY = {"type": "every", "interval": "PT60S"}
STEPS = {"a": call()}


def minutes(*counts: float) -> list[datetime]:
    """Minutes after noon."""
    return [NOON + timedelta(minutes=count) for count in counts]


def facts(lab: Lab, number: int = -1, key: str = "m") -> Any:
    """What an event of the schedule says."""
    return reads.events.of_run(lab.ledger, schedule_id("demo", key))[number].facts


def at(lab: Lab, time: datetime) -> None:
    """Set the ledger's clock: a moment after `time`."""
    lab.forward(time - lab.now())


def deploy(lab: Lab, *, name: str = "demo", steps: Any = None, version: str = "1", **triggers: Any) -> Manifest:
    """Register a flow with these schedules."""
    return lab.flow(steps or STEPS, name=name, version=version, triggers=triggers)


def minutely(lab: Lab, **options: Any) -> None:
    """Flow `demo` with schedule `m`, each whole minute; the clock is at noon and a bit."""
    at(lab, NOON)
    deploy(lab, m={**MINUTELY, **options})


def fire(lab: Lab, **options: Any) -> Fired:
    """One page, as a watchdog asks."""
    return tick.fire(lab.ledger, by="watchdog", **options)


def tell(lab: Lab, hint: datetime | None = None, key: str = "m", flow: str = "demo") -> AnnouncedResult:
    """One schedule is announced."""
    return tick.decide_announced(lab.ledger, {(flow, key): hint}, by="beat")


def row(lab: Lab, key: str = "m", flow: str = "demo") -> ScheduleRow:
    with lab.ledger.tx() as tx:
        return schedules.schedule(tx, flow, key)


def ticks(lab: Lab, key: str = "m", flow: str = "demo") -> list[TickRow]:
    """Oldest first."""
    with lab.ledger.tx() as tx:
        return schedules.ticks(tx, flow, key, 100_000)[::-1]


def outcomes(lab: Lab, key: str = "m", flow: str = "demo") -> list[tuple[float, str]]:
    """Minutes after noon, and the outcome, oldest first; a `missed` row that stands for many says so."""
    return [
        ((one.scheduled_at - NOON) / timedelta(minutes=1), one.outcome + (f" {one.count}" if one.count > 1 else ""))
        for one in ticks(lab, key, flow)
    ]


def events(lab: Lab, key: str = "m", flow: str = "demo") -> list[str]:
    """Types, without `schedule.`."""
    return [event.type.removeprefix("schedule.") for event in reads.events.of_run(lab.ledger, schedule_id(flow, key))]


def end_runs(lab: Lab, run_ids: Iterable[UUID]) -> None:
    for run_id in run_ids:
        lab.drain(run_id)


def check(lab: Lab) -> None:
    """Every started tick has its one run with its time, every run of a schedule has its one tick, counters agree."""
    bad = lab.rows("""
        SELECT t.flow, t.trigger_key, t.scheduled_at, t.outcome, t.run_id, r.id, r.scheduled_for
          FROM flow_schedule_ticks t
          FULL JOIN (SELECT * FROM flow_runs WHERE scheduled_for IS NOT NULL) r ON r.id = t.run_id
         WHERE (t.run_id IS NOT NULL OR r.id IS NOT NULL)
           AND (t.run_id IS NULL OR r.id IS NULL OR t.outcome <> 'started' OR t.scheduled_at <> r.scheduled_for
                OR t.flow <> r.flow)
    """)
    assert bad == []
    without = lab.rows("SELECT * FROM flow_schedule_ticks WHERE outcome = 'started' AND run_id IS NULL")
    assert without == []
    twice = lab.rows(
        "SELECT run_id FROM flow_schedule_ticks WHERE run_id IS NOT NULL GROUP BY run_id HAVING count(*) > 1"
    )
    assert twice == []
    wrong = lab.rows("""
        SELECT s.flow, s.trigger_key, s.fired, s.missed, s.skipped, t.*
          FROM flow_schedule_states s,
               LATERAL (SELECT count(*) FILTER (WHERE outcome = 'started') AS f,
                               COALESCE(sum(count) FILTER (WHERE outcome = 'missed'), 0) AS m,
                               count(*) FILTER (WHERE outcome = 'skipped') AS k
                          FROM flow_schedule_ticks WHERE flow = s.flow AND trigger_key = s.trigger_key) AS t
         WHERE s.fired <> t.f OR s.missed <> t.m OR s.skipped <> t.k
    """)
    assert wrong == []


def check_nothing_lost(lab: Lab, since: datetime, key: str = "m", flow: str = "demo") -> None:
    """Of a schedule that never stopped: each time after `since` up to its last tick is in one row."""
    found = ticks(lab, key, flow)
    one = row(lab, key, flow)
    assert one.last_tick_at is not None
    due = one.timing().between(since, one.last_tick_at, 100_000)
    assert sum(each.count for each in found if each.kind == "cron") == len(due)
    assert {each.scheduled_at for each in found} <= set(due)
