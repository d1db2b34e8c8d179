"""What a preview says of clock changes."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.core.timing import Cron, Every, Timing
from orchestrator.core.timing.notes import preview, zone_of

PARIS = "Europe/Paris"
GAP = datetime(2026, 3, 28, 12, tzinfo=UTC)
FOLD = datetime(2026, 10, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "since", "expected"),
    [
        (
            Cron("30 2 * * *", PARIS),
            GAP,
            [("29 03:00", "02:30 does not exist on 2026-03-29, fires at 03:00"), ("30 02:30", "")],
        ),
        (
            Cron("*/20 2 * * *", PARIS),
            GAP,
            [("29 03:00", "02:00 to 02:40 do not exist on 2026-03-29, fires at 03:00"), ("30 02:00", "")],
        ),
        (
            Cron("30 2 * * *", PARIS, gap="skip"),
            GAP,
            [("30 02:30", "02:30 does not exist on 2026-03-29, skipped"), ("31 02:30", "")],
        ),
        (
            Cron("0 2,3 * * *", PARIS),
            GAP,
            [("29 03:00", "02:00 does not exist on 2026-03-29"), ("30 02:00", "")],
        ),
        (
            Cron("30 * * * *", PARIS),
            GAP.replace(hour=23, minute=45),
            [("29 01:30", ""), ("29 03:30", "02:30 does not exist on 2026-03-29, skipped"), ("29 04:30", "")],
        ),
        (
            Cron("30 2 * * *", PARIS),
            FOLD,
            [("25 02:30", "02:30 comes twice, fires the first time only"), ("26 02:30", "")],
        ),
        (
            Cron("30 2 * * *", PARIS, fold="second"),
            FOLD,
            [("25 02:30", "02:30 comes twice, fires the second time only"), ("26 02:30", "")],
        ),
        (
            Cron("30 * * * *", PARIS),
            FOLD + timedelta(hours=12),
            [("25 02:30", "first 02:30 of two"), ("25 02:30", "second 02:30 of two"), ("25 03:30", "")],
        ),
        (Cron("0 7 * * *", PARIS), GAP, [("29 07:00", ""), ("30 07:00", "")]),
        (Cron("0 7 * * *"), GAP, [("29 07:00", ""), ("30 07:00", "")]),
        (Every("12h"), GAP, [("29 00:00", ""), ("29 12:00", "")]),
        # Lord Howe Island: half an hour, at 2:00
        (
            Cron("10 2 * * *", "Australia/Lord_Howe"),
            datetime(2026, 10, 3, tzinfo=UTC),
            [("04 02:30", "02:10 does not exist on 2026-10-04, fires at 02:30"), ("05 02:10", "")],
        ),
        # Samoa left out a whole day
        (
            Cron("0 7 * * *", "Pacific/Apia"),
            datetime(2011, 12, 29, 20, tzinfo=UTC),
            [("31 00:00", "07:00 does not exist on 2011-12-31, fires at 00:00"), ("31 07:00", "")],
        ),
    ],
)
def test_a_clock_change_is_told(rule: Cron | Every, since: datetime, expected: list[tuple[str, str]]) -> None:
    fires = preview(Timing(rule), since, len(expected), "flow/key")
    assert [(f"{fire.wall:%d %H:%M}", fire.note) for fire in fires] == expected


def test_a_preview_ends_with_the_rule() -> None:
    end = GAP + timedelta(days=3)
    fires = preview(Timing(Cron("0 7 * * *", PARIS), end=end), GAP, 10, "flow/key")
    assert [fire.at.day for fire in fires] == [29, 30, 31]
    assert {fire.zone for fire in fires} == {PARIS} == {zone_of(Cron("0 7 * * *", PARIS))}


def test_the_jitter_of_a_fire_is_that_of_its_decision() -> None:
    timing = Timing(Every("1h"), jitter=timedelta(minutes=10))
    fires = preview(timing, GAP, 20, "flow/key")
    assert [fire.due - fire.at for fire in fires] == [timing.delay("flow/key", fire.at) for fire in fires]
    assert len({fire.due - fire.at for fire in fires}) > 10
