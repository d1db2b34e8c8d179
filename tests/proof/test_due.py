"""The times of a rule, asked second by second."""

from datetime import UTC, datetime

import pytest

from tests.proof.due import due_times, length_ns
from tests.proof.history import SECOND

NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp())


def seconds_of(trigger: dict[str, str], expression: str | None = None, *, minutes: int = 5) -> list[int]:
    """Seconds after noon of a Saturday."""
    found = due_times(trigger, expression, NOON * SECOND, (NOON + minutes * 60) * SECOND)
    return [at // SECOND - NOON for at in found]


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ({"type": "every", "interval": "PT1M40S"}, [0, 100, 200]),
        ({"type": "every", "interval": "PT2M", "anchor": "2026-01-01T00:00:07Z"}, [7, 127, 247]),
        ({"type": "every", "interval": "PT1M", "start": "2026-11-21T12:03:00Z"}, [180, 240]),
        ({"type": "every", "interval": "PT1M", "end": "2026-11-21T12:02:00Z"}, [0, 60]),
        ({"type": "cron", "expression": "*/2 * * * *"}, [0, 120, 240]),
        ({"type": "cron", "expression": "1-3,4 12 * 11 6"}, [60, 120, 180, 240]),
        ({"type": "cron", "expression": "* * * * 0"}, []),
    ],
)
def test_rules(trigger: dict[str, str], expected: list[int]) -> None:
    """Anchors, bounds, fields."""
    assert seconds_of(trigger) == expected


def test_an_operators_expression_comes_first() -> None:
    """Within the bounds of the code's rule."""
    trigger = {"type": "every", "interval": "PT1S", "start": "2026-11-21T12:01:00Z"}
    assert seconds_of(trigger, "*/3 * * * *") == [180]


def test_other_zones_and_both_days_are_refused() -> None:
    """Rather than judged wrongly."""
    with pytest.raises(AssertionError, match="zones"):
        seconds_of({"type": "cron", "expression": "* * * * *", "zone": "Europe/Paris"})
    with pytest.raises(AssertionError, match="both days"):
        seconds_of({"type": "cron", "expression": "* * 1 * 1"})


def test_lengths() -> None:
    """As manifests write them."""
    assert [length_ns(text) for text in (None, "PT0.5S", "PT1H1M", "P1D")] == [
        0,
        SECOND // 2,
        3660 * SECOND,
        86400 * SECOND,
    ]
