"""Ten thousand schedules: what a beat costs, how late ticks are, how soon Redis is like the ledger again."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import psutil
import psycopg
import redis as redis_client
from pydantic import SecretStr

from benchmarks import cpu, scheduled_flows
from benchmarks.alone import Ground
from benchmarks.cpu import Cpu
from benchmarks.figures import number
from benchmarks.processes import BenchFailed, Process
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator import Manifest, Settings
from orchestrator.engine.flows import register
from orchestrator.ledger import migrate
from orchestrator.ledger.tx import Ledger
from orchestrator.servers import redbeat

_DATABASE: Final = 10
_BURST: Final = 10
"""One in so many fires in one second."""
_AHEAD_S: Final = 8.0
"""And a second more for each thousand, to get into Redis."""
_PATIENCE_S: Final = 90.0
_RECONCILED: Final = re.compile(r"beat\.reconciled .*entries=(\d+) .*took_ms=(\d+)")
_LAGS: Final = """
SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY lag), percentile_disc(0.99) WITHIN GROUP (ORDER BY lag),
       max(lag), count(*) FILTER (WHERE by <> 'beat')
  FROM flow_schedule_ticks WHERE lag IS NOT NULL AND flow LIKE %s AND scheduled_at >= %s
"""


class _Field:
    """A ledger full of schedules, one worker, one beat."""

    def __init__(self, ground: Ground) -> None:
        url = ground.database("schedules")
        migrate.upgrade(url)
        self.settings = Settings(database_url=SecretStr(url), broker_url=SecretStr(ground.broker(_DATABASE)))
        self.ledger = Ledger.connect(self.settings.require_database_url(), name="bench")
        self._url, self._ground = url, ground
        self.processes: dict[str, Process] = {}

    def register(self, manifests: Sequence[Manifest]) -> float:
        """How long it took."""
        began = time.monotonic()
        for manifest in manifests:
            register.register(self.ledger, manifest)
        return time.monotonic() - began

    def start(self, name: str, *arguments: str) -> Process:
        env = {
            "ORCHESTRATOR_DATABASE_URL": self.settings.require_database_url(),
            "ORCHESTRATOR_BROKER_URL": self.settings.require_broker_url(),
        }
        self.processes[name] = Process(name, ["-m", "orchestrator", *arguments], env, self._ground.folder)
        return self.processes[name]

    def start_worker(self) -> None:
        made = self.start("ticking-worker", "worker", "--concurrency", "2", "--flows", "benchmarks.scheduled_flows")
        made.wait_ready(lambda: " ready." in made.log_file.read_text(errors="replace"))

    def start_beat(self) -> tuple[int, float]:
        """How many entries it wrote to an empty Redis, and how many seconds that took."""
        made = self.start("ticking-beat", "beat")
        made.wait_ready(lambda: _RECONCILED.search(made.log_file.read_text(errors="replace")) is not None)
        found = _RECONCILED.search(made.log_file.read_text(errors="replace"))
        assert found is not None
        return int(found[1]), int(found[2]) / 1000

    def entries(self) -> int:
        with redis_client.Redis.from_url(self.settings.require_broker_url()) as client:
            return int(client.zcard(f"{redbeat.prefix(self.settings)}:schedule"))

    def lose_redis(self, count: int) -> float:
        """Everything in Redis is gone; seconds until every entry is back."""
        with redis_client.Redis.from_url(self.settings.require_broker_url()) as client:
            client.flushdb()
        began = time.monotonic()
        _until(lambda: self.entries() >= count, "the entries are back")
        return time.monotonic() - began

    def query(self, text: str, *values: object) -> tuple[object, ...]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute(text, values).fetchone()
        assert row is not None
        return tuple(row)

    def lags(self, flows: str, since: datetime) -> tuple[int, str]:
        """How many ticks there were, and how late."""
        count, middle, high, most, watched = self.query(_LAGS, f"{flows}%", since)
        if not count:
            raise BenchFailed("No schedule fired. Fix: look at the logs of the beat and the worker.")
        texts = [f"{name} **{_ms(value)} ms**" for name, value in (("p50", middle), ("p99", high), ("max", most))]
        return int(str(count)), f"{', '.join(texts)}; {watched} of {count:,} by a watchdog"

    def cpu(self) -> tuple[float, Cpu]:
        """Of the beat, and of the worker and the servers."""
        beat = cpu.together([self.processes["ticking-beat"].pid], {}).by_role["worker"]
        return beat, cpu.together([self.processes["ticking-worker"].pid], self._ground.pids)

    def resident(self) -> float:
        """MB of the beat and of the process that watches over it."""
        main = psutil.Process(self.processes["ticking-beat"].pid)
        return sum(one.memory_full_info().uss for one in [main, *main.children(recursive=True)]) / 2**20

    def close(self) -> None:
        for process in self.processes.values():
            process.stop()
        self.ledger.close()


def _ms(value: object) -> str:
    assert isinstance(value, timedelta)
    return number(1000 * value.total_seconds())


def _until(check: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + _PATIENCE_S
    while not check():
        if time.monotonic() > ends:
            raise BenchFailed(f"It took longer than {_PATIENCE_S:.0f} s until {what}. Fix: measure on a quiet machine.")
        time.sleep(0.05)


@contextmanager
def _field(ground: Ground) -> Iterator[_Field]:
    made = _Field(ground)
    try:
        yield made
    finally:
        made.close()


def schedules(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """They fire evenly for a while; then Redis is emptied; then a tenth as many more fire in one second."""
    count, notes = sizes.schedules, []

    def note(text: str) -> None:
        notes.append(text)
        say(f"schedules: {text}")

    with _field(ground) as field:
        field.start_worker()
        flows = scheduled_flows.spread(count)
        note(f"registered by {len(flows)} flows: {number(field.register(flows))} s")
        entries, took = field.start_beat()
        note(f"reconcile, {entries:,} entries into an empty Redis: **{number(took)} s**")
        _steady(field, sizes.schedules_s, note)
        note(f"reconcile, Redis emptied to every entry back: **{number(field.lose_redis(count))} s**")
        burst = max(1, count // _BURST)
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=round(_AHEAD_S + count / 1000))
        field.register(scheduled_flows.at_once(burst, at))
        asked = "SELECT count(*) FROM flow_schedule_ticks WHERE flow LIKE 'burst%%' AND lag IS NOT NULL"
        _until(lambda: field.query(asked)[0] == burst, "all that were due at once are decided")
        note(f"lag of {burst:,} that are due in one second: {field.lags('burst', at)[1]}")
    return Result(f"{count:,} schedules", notes=notes)


def _steady(field: _Field, seconds: float, note: Say) -> None:
    time.sleep(min(2.0, seconds))
    since = datetime.now(UTC)
    beat, rest = field.cpu()
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    beat_after, rest_after = field.cpu()
    ticks, lag = field.lags("timed", since)
    note(f"lag at {number(ticks / took)} ticks/s: {lag}")
    used = beat_after - beat
    note(f"CPU of the beat: **{100 * used / took:.1f} % of a core**, {number(1000 * used / ticks)} ms per tick")
    spent = ", ".join(
        f"{role} {number(ms)} ms" for role, ms in (rest_after - rest).ms_per(ticks).items() if role != "client"
    )
    note(f"CPU of the others for a tick and its run of one step: {spent}")
    note(f"memory of the beat: {number(field.resident())} MB")
