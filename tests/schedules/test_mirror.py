"""What the reconciler decides to change in Redis."""

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.ledger.schedules import MirrorRow
from orchestrator.schedules.mirror import Changes, Found, Put, compare

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = NOW + timedelta(minutes=5)
HERE = Found(7, SOON.timestamp())


def row(key: str = "k", **changes: Any) -> MirrorRow:
    fields: dict[str, Any] = {
        "flow": "f",
        "trigger_key": key,
        "definition": {},
        "expression": None,
        "zone": None,
        "next_tick_at": SOON,
        "due_at": SOON,
        "version": 7,
        "enabled": True,
    }
    return MirrorRow(**{**fields, **changes})


def test_what_is_the_same_is_left_alone() -> None:
    assert compare([row()], {"f/k": HERE}, NOW) == Changes()


def test_what_redis_lost_or_has_of_before_is_written() -> None:
    for found in ({}, {"f/k": Found(6, SOON.timestamp())}, {"f/k": Found(None, SOON.timestamp())}):
        assert compare([row()], found, NOW) == Changes((Put(row()),))


def test_a_due_time_that_differs_is_written_while_nobody_fired_it() -> None:
    """The beat may fire at this moment: then its own next time counts."""
    assert compare([row()], {"f/k": Found(7, 1.0)}, NOW) == Changes((Put(row(), 1.0),))


def test_a_tick_that_is_due_was_announced_and_stays_ahead() -> None:
    late = row(due_at=NOW, next_tick_at=NOW)
    assert compare([late], {"f/k": HERE}, NOW) == Changes()


def test_what_does_not_fire_is_removed() -> None:
    for gone in ([], [row(enabled=False)], [row(due_at=None, next_tick_at=None)]):
        assert compare(gone, {"f/k": HERE}, NOW) == Changes((), ("f/k",))
    assert compare([row(enabled=False)], {}, NOW) == Changes()
