"""A field with a ledger, schedules of a flow, workers that fire them and beats that announce them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from pydantic import SecretStr

from orchestrator.authoring import discovery
from orchestrator.engine.flows import register
from orchestrator.ledger import schedules as stored
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.tx import Ledger
from orchestrator.servers import redbeat
from orchestrator.settings import Settings
from tests.support.beat_process import Beat, BeatProcess, ForkedBeat, beating
from tests.support.eventually import eventually
from tests.support.nursery import Forked, Nursery
from tests.support.worker_process import WorkerProcess

FLOW = "ticking"
_CODE = """
from orchestrator import Context, Cron, Every, flow, schedule, step

@step
def note(ctx: Context) -> str:
    return str(ctx.scheduled_for)

@flow(name="ticking")
def ticking() -> str:
    return note()
"""
QUICK: dict[str, Any] = {
    "beat_lock": timedelta(seconds=3),
    "beat_interval": timedelta(seconds=0.5),
    "reconcile_interval": timedelta(seconds=2),
    "watchdog_interval": timedelta(seconds=1),
    "tick_grace": timedelta(seconds=1),
}


@dataclass(frozen=True)
class Tick:
    scheduled_at: datetime
    outcome: str
    by: str
    decided_at: datetime
    lag: timedelta | None


@dataclass(frozen=True)
class Verdict:
    """All ticks of a schedule that makes up for everything. `lost` have no run, `doubles` are runs beside theirs."""

    ticks: list[Tick]
    lost: list[datetime]
    doubles: list[Any]
    unstarted: list[Tick]

    @property
    def right(self) -> bool:
        return bool(self.ticks) and not (self.lost or self.doubles or self.unstarted)

    def late(self, by: str | None = None) -> list[float]:
        return sorted(one.lag.total_seconds() for one in self.ticks if one.lag is not None and by in (None, one.by))


@dataclass
class Field:
    settings: Settings
    ledger: Ledger
    folder: Path
    stack: ExitStack
    nursery: Nursery
    first: dict[str, datetime] = field(default_factory=dict)
    people: list[WorkerProcess] = field(default_factory=list)
    flows: Path = Path()

    def plan(self, *schedules: str) -> None:
        """The flow has these schedules from now on: `Every("1s"), key="e", missed="all"`."""
        self.flows = self.folder / f"flows_{len(list(self.folder.glob('flows_*.py')))}.py"  # a module is loaded once
        self.flows.write_text(_CODE + "".join(f"schedule(ticking, {one})\n" for one in schedules))
        for flow in discovery.load_flows((str(self.flows),)).values():
            register.register(self.ledger, flow.manifest)
        for row in self.rows():
            if row.next_tick_at is not None:
                self.first.setdefault(row.trigger_key, row.next_tick_at)

    def worker(self, **options: Any) -> Forked:
        given = {"pool": "threads", "name": f"w{len(self.people)}", **options}
        made = Forked(self.nursery, given.pop("settings", self.settings), str(self.flows), self.folder, **given)
        self.people.append(made)
        self.stack.callback(made.kill)
        return made.start()

    def beat(self, *, ready: bool = True, settings: Settings | None = None, **options: Any) -> Beat:
        """With `env` it is a program of its own, otherwise it comes out of the nursery."""
        given, options = settings or self.settings, {"name": f"b{len(self.people)}", **options}
        made: Beat
        if "env" in options:
            made = BeatProcess(given, self.folder, **options)
        else:
            made = ForkedBeat(self.nursery, given, self.folder, **options)
        self.people.append(made)
        return self.stack.enter_context(beating(made, ready=ready))

    # ---- the ledger ----

    def rows(self) -> list[ScheduleRow]:
        with self.ledger.tx() as tx:
            return stored.schedules(tx, FLOW)

    def row(self, key: str) -> ScheduleRow:
        with self.ledger.tx() as tx:
            return stored.schedule(tx, FLOW, key)

    def query(self, text: str, *values: Any) -> list[Any]:
        url = self.settings.require_database_url().replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(text, values).fetchall()  # type: ignore[arg-type]

    def ticks(self, key: str, by: str | None = None) -> list[Tick]:
        found = self.query(
            "SELECT scheduled_at, outcome, by, decided_at, lag FROM flow_schedule_ticks"
            " WHERE trigger_key = %s AND kind = 'cron' ORDER BY scheduled_at",
            key,
        )
        return [one for one in (Tick(*row) for row in found) if by in (None, one.by)]

    def wait_ticks(self, count: int, key: str, *, by: str | None = None, timeout: float = 40) -> list[Tick]:
        """Until there are so many more."""
        before = len(self.ticks(key, by))
        try:
            eventually(lambda: len(self.ticks(key, by)) >= before + count, timeout=timeout, interval=0.05)
        except AssertionError as exc:
            tails = "\n".join(f"--- {one.log_file.name}\n{one.tail(15)}" for one in self.people)
            raise AssertionError(f"{exc}\n{self.ticks(key)[-5:]}\n{tails}") from None
        return self.ticks(key, by)[before:]

    def wait_punctual(self, key: str, within_s: float) -> None:
        """Of eight ticks in a row that a beat announced, half are decided so soon; on a machine that is busy with other
        things these need not be the first eight."""

        def soon() -> bool:
            lags = sorted(one.lag.total_seconds() for one in self.ticks(key, by="beat")[-8:] if one.lag is not None)
            return len(lags) == 8 and lags[4] < within_s

        eventually(soon, interval=0.5, message=f"ticks within {within_s} s")

    def verdict(self, key: str) -> Verdict:
        """Every scheduled time from the first to the last decided one has one row (its key), and that one run."""
        row = self.row(key)
        assert row.last_tick_at is not None
        ticks = self.ticks(key)
        since = self.first[key] - timedelta(seconds=1)
        expected = row.timing().between(since, row.last_tick_at, 1_000_000)
        doubles = self.query(
            "SELECT r.id, r.scheduled_for FROM flow_runs r LEFT JOIN flow_schedule_ticks t ON t.run_id = r.id"
            " AND t.scheduled_at = r.scheduled_for WHERE r.flow = %s AND t.run_id IS NULL",
            FLOW,
        )
        with_runs = self.query(
            "SELECT t.scheduled_at FROM flow_schedule_ticks t JOIN flow_runs r ON r.id = t.run_id"
            " WHERE t.trigger_key = %s AND r.scheduled_for = t.scheduled_at",
            key,
        )
        lost = sorted(set(expected) - {row[0] for row in with_runs})
        return Verdict(ticks, lost, doubles, [one for one in ticks if one.outcome != "started"])

    # ---- RedBeat ----

    def redis(self) -> "redis.Redis":
        made = redbeat.client(self.settings)
        self.stack.callback(made.close)
        return made

    def scores(self) -> dict[str, float]:
        """Entry to its due time, in seconds since 1970."""
        prefix = redbeat.prefix(self.settings)
        with redbeat.client(self.settings) as client:
            found = client.zrange(f"{prefix}:schedule", 0, -1, withscores=True)
        return {name.removeprefix(prefix): score for name, score in found}  # type: ignore[union-attr]


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Short times for beats too."""
    return settings.model_copy(update=QUICK)


@pytest.fixture
def field_of(tmp_path: Path, the_nursery: Nursery) -> Iterator[Callable[[Settings], Field]]:
    with ExitStack() as stack:

        def make(settings: Settings) -> Field:
            ledger = Ledger.connect(settings.require_database_url(), name="test")
            stack.callback(ledger.close)
            return Field(settings, ledger, tmp_path, stack, the_nursery)

        yield make


@pytest.fixture
def ground(quick: Settings, field_of: Callable[[Settings], Field]) -> Field:
    return field_of(quick)


def at(settings: Settings, **changes: Any) -> Settings:
    """These settings with others, checked as those of the environment are."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    secret = {name: SecretStr(value) if name.endswith("_url") else value for name, value in changes.items()}
    return Settings(**{**given, **secret})


def run_ids(found: Field) -> list[UUID]:
    return [row[0] for row in found.query("SELECT id FROM flow_runs ORDER BY id")]
