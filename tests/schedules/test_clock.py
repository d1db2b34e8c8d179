"""A beat whose clock is wrong goes by the ledger's."""

from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from orchestrator.schedules import clock as module
from orchestrator.schedules.clock import LedgerClock
from tests.schedules.conftest import Field
from tests.support.beat_process import faketime

EACH = 'Every("3s"), key="e", missed="all"'
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_the_clock_goes_on_from_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    at = monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: at)
    clock = LedgerClock()
    assert not clock.is_set
    clock.tell(NOON, at - 5)
    assert clock.is_set
    assert clock.now() == NOON + timedelta(seconds=5)
    at += 60
    assert clock.now() == NOON + timedelta(seconds=65)


def test_a_beat_that_cannot_ask_goes_by_its_own_clock_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    at = monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: at)
    clock = LedgerClock()
    at += 11
    assert clock.is_set
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("off_s", [3601.5, -3601.5])
@pytest.mark.parametrize("how", ["shifted in the process", "libfaketime"])
def test_a_beat_an_hour_off_announces_on_time(ground: Field, off_s: float, how: str) -> None:
    """By its own clock it would announce in the middle between two ticks."""
    library = faketime()
    if how == "libfaketime" and library is None:
        pytest.skip("libfaketime is not on this machine")
    ground.plan(EACH)
    ground.worker()
    if how == "libfaketime":
        assert library is not None
        ground.beat(env={"LD_PRELOAD": library, "FAKETIME": f"{off_s:+}"})
    else:
        ground.beat(shift_s=off_s)
    ground.beat()
    ground.wait_punctual("e", within_s=1)
    verdict = ground.verdict("e")
    assert verdict.right, verdict
    assert ground.people[1].log().count("beat.leads") == 1
