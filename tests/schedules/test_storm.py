"""Thousands of ticks while beats die and sleep, and Redis forgets: none lost, none doubled. Prints its seed."""

import os
import random
from collections.abc import Callable
from time import monotonic, sleep
from typing import Final

import pytest

from orchestrator.servers import redbeat
from tests.schedules.conftest import Field
from tests.support.beat_process import Beat

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
KEYS: Final = tuple(f"e{number}" for number in range(12))
TICKS: Final = 2_000


class Storm:
    """Two or three beats, and what befalls them."""

    def __init__(self, ground: Field, chance: random.Random) -> None:
        self.ground = ground
        self.chance = chance
        self.beats: list[Beat] = [ground.beat() for _ in range(3)]
        self.struck: dict[str, int] = {}

    def strike(self) -> None:
        acts: list[Callable[[], None]] = [self.kill, self.sleep, self.flush, self.evict, self.restart]
        act = self.chance.choice(acts)
        self.struck[act.__name__] = self.struck.get(act.__name__, 0) + 1
        act()

    def one(self) -> Beat:
        """The one that leads, most of the time."""
        leads = [beat for beat in self.beats if beat.leads]
        return self.chance.choice(leads if leads and self.chance.random() < 0.8 else self.beats)

    def kill(self) -> None:
        self.replace(self.one())

    def replace(self, beat: Beat) -> None:
        beat.kill()
        self.beats[self.beats.index(beat)] = self.ground.beat(ready=False)

    def restart(self) -> None:
        beat = self.one()
        beat.term()
        beat.wait()
        self.replace(beat)

    def sleep(self) -> None:
        """For longer than the lock, or for a moment."""
        beat = self.one()
        beat.stop()
        sleep(self.chance.choice([0.3, 4.5]))
        beat.cont()

    def flush(self) -> None:
        self.ground.redis().flushall()

    def evict(self) -> None:
        client, prefix = self.ground.redis(), redbeat.prefix(self.ground.settings)
        client.delete(*(f"{prefix}ticking/{key}" for key in self.chance.sample(KEYS, 4)))


def test_thousands_of_ticks_with_faults(ground: Field) -> None:
    seed = int(os.environ.get("TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    ground.plan(*(f'Every("1s"), key="{key}", missed="all"' for key in KEYS))
    for _ in range(2):
        ground.worker()
    storm = Storm(ground, chance)
    began = monotonic()

    def count() -> int:
        return int(ground.query("SELECT count(*) FROM flow_schedule_ticks")[0][0])

    while count() < TICKS and monotonic() - began < 700:
        storm.strike()
        sleep(chance.uniform(1, 4))
    verdicts = [ground.verdict(key) for key in KEYS]
    late = sorted(lag for verdict in verdicts for lag in verdict.late())
    by = dict(ground.query("SELECT by, count(*)::int FROM flow_schedule_ticks GROUP BY 1"))
    doubles = sum(ground.row(key).doubles for key in KEYS)
    print(
        f"{len(late)} ticks in {monotonic() - began:.0f} s, struck {storm.struck}, decided by {by}, "
        f"{doubles} announcements suppressed; lag p50 {late[len(late) // 2]:.2f} s, "
        f"p99 {late[len(late) * 99 // 100]:.2f} s, worst {late[-1]:.2f} s"
    )
    assert len(late) >= TICKS
    assert [verdict for verdict in verdicts if not verdict.right] == []
