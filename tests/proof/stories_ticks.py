"""Histories of schedules without a violation: a clock that begins at second 100, and rules of one or more seconds."""

from typing import Any

from tests.proof.history import SECOND, History
from tests.proof.stories import right
from tests.proof.story import HASH, Story

EVERY = {"type": "every", "interval": "PT1S", "missed": "all"}
KEY = ("demo", "tick")


class Timed(Story):
    """One schedule, and the runs that its ticks start; each ends in the sentence that starts it unless it is told to
    stay open."""

    def __init__(self, **trigger: Any) -> None:
        super().__init__()
        self.steps.clear()  # what the steps of a run did is no matter here
        self.body = {"fates": {}, "lists": {}}
        self.flow_row(enabled=True)
        self.commit()
        self.state(active=True, definition={**EVERY, **trigger})
        self._runs = 0

    def flow_row(self, **new: Any) -> None:
        self.put("flow_definitions", ("demo",), name="demo", **new)

    def state(self, **new: Any) -> None:
        self.put("flow_schedule_states", KEY, flow="demo", trigger_key="tick", **new)

    def row(self, at: float, **new: Any) -> None:
        """A tick's row, in the present transaction."""
        scheduled = int(at * SECOND)
        names = {"flow": "demo", "trigger_key": "tick", "scheduled_at": scheduled}
        self.put("flow_schedule_ticks", (*KEY, scheduled), **names, **{"kind": "cron", "by": "beat", **new})

    def count(self, name: str, by: int = 1) -> None:
        now = self.rows["flow_schedule_states", *KEY].get(name, 0)
        self.state(**{name: now + by})

    def until(self, at: float) -> None:
        """Time passes."""
        self.now = max(self.now, int(at * SECOND))

    def run(self, at: float, **facts: Any) -> str:
        """A run's row, in the present transaction."""
        self._runs += 1
        run_id = f"run-of-{self._runs}"
        known = {"flow": "demo", "manifest_hash": HASH, "status": "pending", "epoch": 1, "sinks_open": 1}
        told = {"trigger_type": "cron", "scheduled_for": int(at * SECOND), "created_at": self.now, **known, **facts}
        self.put("flow_runs", (run_id,), id=run_id, **told)
        return run_id

    def over(self, run_id: str, status: str = "succeeded") -> None:
        """Its end."""
        self.commit()
        self.put("flow_runs", (run_id,), status=status, sinks_open=0)

    def start_tick(self, at: float, *, open: bool = False, late: float = 0.0, **facts: Any) -> str:
        """On time, in one commit with its run."""
        self.until(at + late)
        self.commit()
        run_id = self.run(at)
        self.row(at, outcome="started", run_id=run_id, **facts)
        self.count("fired")
        if not open:
            self.over(run_id)
        return run_id

    def miss(self, at: float, count: int = 1) -> None:
        """In the present transaction."""
        self.row(at, outcome="missed", count=count)
        self.count("missed", count)

    def ticks(self, since: int, until: int) -> None:
        """Every second of [since, until)."""
        for at in range(since, until):
            self.start_tick(at)

    def pause(self) -> None:
        self.commit()
        self.state(paused_at=self.now)

    def resume(self) -> None:
        self.commit()
        self.state(paused_at=None)

    def closed(self) -> History:
        """Stopped, and the record ends."""
        self.pause()
        return self.told()

    def told(self) -> History:
        """The record ends, long enough after the last sentence for everything to be judged."""
        return self.history(ended_ns=self.now + 20 * SECOND)


@right
def a_schedule_fires_every_second() -> History:
    story = Timed()
    story.ticks(101, 106)
    return story.closed()


@right
def all_is_made_up_for_after_an_outage() -> History:
    story = Timed()
    story.ticks(101, 103)
    for at in range(103, 112):
        story.start_tick(at, late=max(0, 108 - at), by="watchdog")
    return story.closed()


@right
def the_latest_is_made_up_for() -> History:
    story = Timed(missed="latest")
    story.ticks(101, 103)
    story.until(108)
    story.commit()
    run_id = story.run(108)
    story.miss(107, 5)
    story.row(108, outcome="started", run_id=run_id)
    story.count("fired")
    story.over(run_id)
    return story.closed()


@right
def what_is_older_than_the_window_is_missed() -> History:
    story = Timed(window="PT3S")
    story.ticks(101, 103)
    story.until(110)
    story.commit()
    story.miss(106, 4)
    for at in range(107, 111):
        story.start_tick(at, late=max(0, 110.2 - at))
    return story.closed()


@right
def a_pause_is_not_made_up_for() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.pause()
    story.until(120)
    story.resume()
    story.ticks(121, 124)
    return story.closed()


@right
def what_is_left_when_a_schedule_stops_is_missed() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.until(106.5)
    story.commit()
    story.miss(106, 3)
    story.state(paused_at=story.now)
    return story.told()


@right
def a_flow_is_disabled_and_enabled_again() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.commit()
    story.flow_row(enabled=False)
    story.state(version=2)
    story.until(110)
    story.commit()
    story.flow_row(enabled=True)
    story.state(version=3)
    story.ticks(111, 114)
    return story.closed()


@right
def an_operator_sets_another_rule() -> History:
    story = Timed()
    story.ticks(101, 104)
    story.commit()
    story.state(expression="*/2 * * * *")
    story.start_tick(120)
    story.start_tick(240)
    story.commit()
    story.state(expression=None)
    story.ticks(242, 245)
    return story.closed()


@right
def one_is_queued_and_the_next_takes_its_place() -> History:
    story = Timed(overlap="queue")
    first = story.start_tick(101, open=True)
    story.until(102)
    story.commit()
    story.row(102, outcome="queued", waits_for=first)
    story.until(103)
    story.commit()
    story.row(103, outcome="queued", waits_for=first)
    story.row(102, outcome="skipped")
    story.count("skipped")
    story.over(first)
    story.commit()
    second = story.run(103)
    story.row(103, outcome="started", run_id=second)
    story.count("fired")
    story.over(second)
    return story.closed()


@right
def the_next_cancels_the_one_before() -> History:
    story = Timed(overlap="cancel")
    first = story.start_tick(101, open=True)
    story.until(102)
    story.commit()
    story.put("flow_runs", (first,), halt="cancelled")
    second = story.run(102)
    story.row(102, outcome="started", run_id=second)
    story.count("fired")
    story.over(first, "cancelled")
    story.over(second)
    return story.closed()


@right
def an_operator_starts_one_beside_the_rule() -> History:
    story = Timed()
    story.ticks(101, 103)
    story.pause()
    story.until(110)
    story.start_tick(110.25, kind="manual", by="operator")
    return story.told()
