"""Ten thousand schedules: what they cost a beat, and how late ticks are. Figures are printed, hardly judged."""

import re
from datetime import datetime, timedelta
from time import monotonic

import psutil
import pytest

from orchestrator.ledger import reads
from orchestrator.settings import Settings
from tests.schedules.conftest import QUICK, Field
from tests.support.eventually import eventually
from tests.support.nursery import Forked

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
COUNT = 10_000
_COPY = """
INSERT INTO flow_schedule_states (flow, trigger_key, active, definition, next_tick_at, due_at, version)
SELECT flow, 'k' || n, TRUE,
       jsonb_set(definition::jsonb, '{anchor}', to_jsonb(%s::timestamptz + (n %% %s) * INTERVAL '1s'))::json,
       %s::timestamptz + (n %% %s) * INTERVAL '1s', %s::timestamptz + (n %% %s) * INTERVAL '1s', version
  FROM flow_schedule_states, generate_series(1, %s) AS n WHERE trigger_key = 'model'
"""


def many(ground: Field, first: datetime, spread_s: int) -> None:
    """Schedules every five minutes, the first of them due at `first`, as many in each second of the spread."""
    ground.query(_COPY + " RETURNING 1", *(first, spread_s) * 3, COUNT)
    ground.query("UPDATE flow_schedule_states SET active = FALSE WHERE trigger_key = 'model' RETURNING 1")


def cpu_s(process: Forked) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def lags(ground: Field) -> list[float]:
    found = ground.query("SELECT extract(epoch FROM lag)::float8 FROM flow_schedule_ticks ORDER BY lag")
    return [row[0] for row in found]


def report(name: str, late: list[float]) -> None:
    shown = ", ".join(f"p{share} {late[min(len(late) - 1, len(late) * share // 100)]:.2f} s" for share in (50, 99))
    print(f"{name}: {len(late)} ticks, lag {shown}, worst {late[-1]:.2f} s")


def decided_by(ground: Field) -> dict[str, int]:
    return dict(ground.query("SELECT by, count(*)::int FROM flow_schedule_ticks GROUP BY 1"))


def minute_of(ground: Field, ahead_s: float) -> datetime:
    now = reads.clock.now(ground.ledger)
    return (now + timedelta(seconds=ahead_s)).replace(microsecond=0)


def test_ten_thousand_schedules_spread_over_five_minutes(ground: Field) -> None:
    ground.settings = ground.settings.model_copy(
        update={"watchdog_interval": timedelta(seconds=5), "tick_grace": timedelta(seconds=5)}
    )
    ground.plan('Every("5m"), key="model"')
    ground.worker()
    many(ground, minute_of(ground, 20), 300)
    beat = ground.beat()
    eventually(lambda: len(ground.scores()) == COUNT, timeout=60, interval=0.2, message="all entries are there")
    began, used = monotonic(), cpu_s(beat)  # type: ignore[arg-type]
    eventually(lambda: len(lags(ground)) > COUNT // 4, timeout=200, interval=1)
    share = (cpu_s(beat) - used) / (monotonic() - began)  # type: ignore[arg-type]
    report(f"{COUNT} schedules, 33 ticks/s", lags(ground))
    took = [int(ms) for ms in re.findall(r"beat.reconciled .*took_ms=(\d+)", beat.log())]
    print(f"beat: {100 * share:.0f} % of a core; writing all entries took {took} ms; decided by {decided_by(ground)}")
    assert decided_by(ground)["beat"] > 0.9 * sum(decided_by(ground).values())


def test_ten_thousand_schedules_due_in_one_second(ground: Field) -> None:
    ground.plan('Every("5m"), key="model"')
    for _ in range(2):
        ground.worker()
    many(ground, minute_of(ground, 20), 1)
    beat = ground.beat()
    eventually(lambda: len(ground.scores()) == COUNT, timeout=60, interval=0.2, message="all entries are there")
    eventually(lambda: len(lags(ground)) >= COUNT, timeout=400, interval=0.5, message="all ticks are decided")
    report(f"{COUNT} ticks at once, two workers", lags(ground))
    print(f"decided by {decided_by(ground)}; {beat.log().count('beat.lock_lost')} locks lost")
    runs = ground.query("SELECT count(*)::int, count(DISTINCT run_id)::int FROM flow_schedule_ticks")
    assert runs == [(COUNT, COUNT)]


@pytest.mark.parametrize("kind", ["kill", "stop"])
def test_the_time_a_failover_takes_with_the_defaults(ground: Field, kind: str) -> None:
    changed = {name: Settings.model_fields[name].default for name in QUICK}
    ground.settings = ground.settings.model_copy(update=changed)
    ground.plan('Every("1s"), key="e", missed="all"')
    ground.worker()
    holder, standby = ground.beat(), ground.beat()
    assert holder.leads
    ground.wait_ticks(5, "e", by="beat")
    getattr(holder, kind)()
    since, count = monotonic(), len(ground.ticks("e"))
    standby.wait_for("beat.leads")
    led = monotonic() - since
    ground.wait_ticks(2, "e", by="beat")
    print(f"{kind}: the standby leads after {led:.1f} s, and announced a tick after {monotonic() - since:.1f} s")
    verdict = ground.verdict("e")
    assert verdict.right, verdict
    between = [one.lag.total_seconds() for one in verdict.ticks[count:] if one.by == "watchdog" and one.lag is not None]
    print(f"{len(between)} ticks were fired by the watchdog meanwhile, at most {max(between, default=0.0):.1f} s late")
    assert led < 60, "it does not wait for anything that is longer than the lock"
