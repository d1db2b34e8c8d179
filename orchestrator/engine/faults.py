"""Named points where a test may kill, pause or fail this process. Unarmed, each is one dictionary look-up."""

from collections.abc import Callable
from typing import Final

POINTS: Final = frozenset(
    {
        "start.before",
        "start.committed",
        "claim.before",
        "claim.committed",
        "handler.before",
        "handler.after",
        "finish.before",
        "finish.committed",
        "fail.before",
        "fail.committed",
        "poll.before",
        "poll.committed",
        "publish.before",
        "publish.after",
        "renew.before",
        "renew.committed",
        "sweep.selected",
        "sweep.committed",
        "expand.inserted",
        "items.entered",
        "item.ended",
        "loop.stopped",
        "wait.parked",
        "wake.selected",
        "signal.before",
        "signal.taken",
        "signal.committed",
        "wake.committed",
        "rerun.kept",
        "settle.before",
        "settle.ended",
        "settle.committed",
        "call.accepted",
        "call.adopted",
        "report.before",
        "report.committed",
        "payload.owned",
        "payload.written",
        "rollup.counted",
        "rollup.committed",
        "operation.selected",
        "operation.acted",
        "operation.committed",
        "feed.moved",
        "notification.claimed",
        "notification.sent",
        "notification.committed",
        "webhook.judged",
        "webhook.kept",
        "webhook.committed",
        "tick.selected",
        "tick.decided",
        "tick.committed",
        "beat.held",
        "beat.loaded",
        "beat.sent",
        "beat.advanced",
    }
)
_armed: dict[str, Callable[[], None]] = {}


def arm(point: str, action: Callable[[], None]) -> None:
    """From now on `action` runs whenever this process passes `point`. For tests.

    Raises:
        ValueError: no such point.
    """
    if point not in POINTS:
        raise ValueError(f"No fault point {point!r}; there are: {', '.join(sorted(POINTS))}.")
    _armed[point] = action


def disarm() -> None:
    """Nothing is armed any more."""
    _armed.clear()


def fp(point: str) -> None:
    """Pass a point."""
    action = _armed.get(point)
    if action is not None:
        action()
