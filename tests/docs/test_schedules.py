"""Every line of the tables of rules in `docs/schedules.md` is played: on the rules alone, or on a real ledger."""

import re
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from orchestrator.cli import scheduleview
from orchestrator.core.facts import Lease
from orchestrator.core.timing import Cron, Every, Rule
from orchestrator.engine.schedules import tick
from orchestrator.engine.schedules.fired import Fired
from orchestrator.ledger import schedules
from orchestrator.ledger.schedules import ScheduleRow, TickRow
from orchestrator.ledger.tx import Ledger
from tests.cli.conftest import Cli
from tests.docs import pages
from tests.support.factories import Lab, call

PAGE: Final = "docs/schedules.md"
OVERLAP: Final = "Overlap: a time comes while an earlier run is open"
MISSED: Final = "Missed: nobody decided in time"
TAKES: Final = timedelta(minutes=90)


def rows(heading: str) -> list[list[str]]:
    return pages.table(pages.section(PAGE, heading))


RULES = [
    row
    for heading in ("Zone", "Gap: a wall time that does not exist", "Fold: a wall time that exists twice")
    for row in rows(heading)
]


@pytest.mark.parametrize(("rule", "after", "fires"), [row[:3] for row in RULES], ids=[row[0] for row in RULES])
def test_a_rule_fires_when_the_page_says(rule: str, after: str, fires: str) -> None:
    made: Rule = eval(rule.strip("`"), {"Cron": Cron, "Every": Every})
    expected = [datetime.fromisoformat(text) for text in pages.code(fires)]
    at, found = datetime.fromisoformat(after.strip("`")), []
    for _ in expected:
        at = made.after(at)
        assert at is not None
        found.append(at)
    assert found == expected


# ---- a day on a ledger ----


class Day:
    """A schedule of the flow `report`, on a ledger whose clock is set by hand: tomorrow, in UTC."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.midnight = lab.now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        self.working: dict[datetime, Lease] = {}

    def set_to(self, wall: str) -> None:
        """The clock is at `wall`, such as 12:00:30."""
        hours, minutes, *seconds = map(int, wall.split(":"))
        at = self.midnight + timedelta(hours=hours, minutes=minutes, seconds=seconds[0] if seconds else 0)
        self.lab.forward(at - self.lab.now())

    def deploy(self, expression: str | None, **options: Any) -> None:
        """The flow with this cron rule, or with none."""
        trigger = {"type": "cron", "expression": expression, **options}
        self.lab.flow({"write": call()}, name="report", triggers={"nightly": trigger} if expression else {})

    def fire(self, **late: timedelta) -> Fired:
        """As a watchdog, until nothing is due."""
        fired = tick.fire(self.lab.ledger, by="watchdog", **late)
        return fired + self.fire(**late) if fired.more else fired

    def tell(self, scheduled: datetime) -> Fired:
        """As a beat."""
        told = tick.decide_announced(self.lab.ledger, {("report", "nightly"): scheduled}, by="beat")
        assert told.fired.unfinished == ()
        return told.fired

    def work(self) -> None:
        """End the runs whose time is over or that were told to stop, start what waited for that, take what is ready."""
        for until, lease in list(self.working.items()):
            if until <= self.lab.now() or self.lab.run_row(lease.run_id)["halt"] is not None:
                self.lab.done(lease)
                del self.working[until]
        tick.waiting(self.lab.ledger)
        for run in self.lab.rows("SELECT id FROM flow_runs WHERE status = 'pending'"):
            self.working[self.lab.now() + TAKES] = self.lab.take(run["id"], "write", lease=timedelta(days=1))

    def row(self, ledger: Ledger | None = None) -> ScheduleRow:
        with (ledger or self.lab.ledger).auto() as tx:
            return schedules.schedule(tx, "report", "nightly")

    def ticks(self) -> list[TickRow]:
        with self.lab.ledger.auto() as tx:
            return schedules.ticks(tx, "report", "nightly")

    def runs(self) -> int:
        return len(self.lab.rows("SELECT FROM flow_runs"))

    def became(self, walls: list[str], status: Callable[[TickRow], str | None]) -> list[str | None]:
        """What became of each of these hours; a row of missed ones stands for all its hours."""
        found: dict[str, str | None] = {}
        for row in self.ticks():
            for back in range(row.count):
                found[f"{row.scheduled_at - timedelta(hours=back):%H:%M}"] = status(row)
        return [found.get(wall) for wall in walls]


@pytest.fixture
def day(lab: Lab) -> Day:
    return Day(lab)


@pytest.mark.parametrize("row", rows(OVERLAP), ids=lambda row: row[0])
def test_a_time_that_comes_while_a_run_is_open(day: Day, row: list[str]) -> None:
    day.set_to("08:50")
    day.deploy("0 9-11 * * *", overlap=row[0].strip("`"))
    for minutes in range(0, 136, 5):  # from 09:00 to 11:15
        day.set_to(f"{9 + minutes // 60:02}:{minutes % 60:02}:01")
        day.work()
        day.fire()
        day.work()
    assert day.became(["09:00", "10:00", "11:00"], lambda tick_: tick_.run_status or tick_.outcome) == row[1:4]


@pytest.mark.parametrize("row", rows(MISSED), ids=lambda row: f"{row[0]} {row[1]}")
def test_times_that_nobody_decided(day: Day, row: list[str]) -> None:
    missed, *window = pages.code(row[0])
    options = {"window": re.sub(r'window="(.*)"', r"\1", window[0])} if window else {}
    day.set_to("08:20")
    day.deploy("0 * * * *", missed=missed, **options)
    day.set_to(row[1])
    day.fire()
    assert day.became(["09:00", "10:00", "11:00", "12:00"], lambda tick_: tick_.outcome) == row[2:6]
    assert day.row().missed == row[2:6].count("missed")
    assert day.runs() == row[2:6].count("started")


def _nine(day: Day, now: str) -> datetime:
    day.set_to("08:20")
    day.deploy("0 9 * * *")
    day.set_to(now)
    return day.midnight + timedelta(hours=9)


def beat_ahead(day: Day) -> None:
    nine = _nine(day, "08:30")
    assert day.tell(nine).decided == 0
    assert (day.ticks(), day.runs()) == ([], 0)


def beat_behind(day: Day) -> None:
    _nine(day, "09:00:06")
    assert len(tick.fire(day.lab.ledger, by="watchdog", late=timedelta(seconds=5)).started) == 1
    (only,) = day.ticks()
    assert only.lag is not None
    assert timedelta(seconds=5) < only.lag < timedelta(seconds=60)
    assert day.tell(only.scheduled_at).started == ()  # an hour later, when the beat thinks it is time


def two_beats(day: Day) -> None:
    nine = _nine(day, "09:00")
    assert len(day.tell(nine).started) == 1
    assert day.tell(nine).doubles == 1
    assert (day.row().doubles, day.runs()) == (1, 1)


def no_beat(day: Day) -> None:
    _nine(day, "09:00:06")
    assert len(day.fire(late=timedelta(seconds=5)).started) == 1


def clock_back(day: Day) -> None:
    nine = _nine(day, "09:00")
    assert len(day.tell(nine).started) == 1
    day.set_to("08:00:01")
    assert day.fire().decided == 0
    day.set_to("09:00:05")
    assert day.fire().decided == 0
    assert day.tell(nine).started == ()
    assert day.runs() == 1


def clock_ahead(day: Day) -> None:
    day.set_to("08:20")
    day.deploy("0 * * * *")
    day.set_to("11:20")
    day.fire()
    assert [(row.outcome, row.count) for row in day.ticks()] == [("started", 1), ("missed", 2)]


CLOCK: Final[dict[str, Callable[[Day], None]]] = {
    "a beat's clock is an hour ahead": beat_ahead,
    "a beat's clock is an hour behind": beat_behind,
    "two beats tell of the same time": two_beats,
    "no beat runs at all": no_beat,
    "the database's clock is put back by an hour": clock_back,
    "the database's clock jumps ahead by three hours": clock_ahead,
}


@pytest.mark.parametrize("what", [row[0] for row in rows("Clock")])
def test_no_clock_but_the_databases_decides(day: Day, what: str) -> None:
    CLOCK[what](day)


def test_an_override_and_a_pause_stay_until_they_are_taken_back(
    day: Day, cli: Cli, monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    """Line by line; a day goes by after each."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", day.lab.url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", broker_url)
    day.set_to("00:00")
    for what, rule, fires in rows("Override and pause"):
        _happens(day, cli, what)
        ledger = Ledger.connect(day.lab.url)  # as a process that starts now
        assert scheduleview.rule(day.row(ledger)) == rule.strip("`"), what
        ledger.close()
        before = day.runs()
        day.lab.forward(timedelta(days=1))
        day.fire()
        assert day.runs() - before == (fires == "yes"), what


def _happens(day: Day, cli: Cli, what: str) -> None:
    spans = pages.code(what)
    if spans and spans[0].startswith("orchestrator "):
        cli(*shlex.split(spans[0])[1:])
    elif what.startswith(("the code says", "a deploy")):
        day.deploy(spans[0] if spans else None)
    else:
        assert what == "every process is restarted"


def test_every_table_of_the_page_is_played() -> None:
    """A table under a new heading needs a test here."""
    played = [*RULES, *rows(OVERLAP), *rows(MISSED), *rows("Clock"), *rows("Override and pause")]
    assert len(played) == len(_all_rows(pages.section(PAGE, "The rules")))


def _all_rows(text: str) -> list[list[str]]:
    tables = re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE)
    return [row for number in range(len(tables)) for row in pages.table(text, number)]
