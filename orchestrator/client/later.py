"""Runs that begin later: `start_after`."""

from datetime import datetime, timedelta
from typing import Final, TypeAlias

from orchestrator.core.durations import DurationLike, parse_duration
from orchestrator.core.times import in_range
from orchestrator.errors import DurationInvalid, UsageError

StartAfter: TypeAlias = DurationLike | datetime
"""A length of time, `"10m"`, or a point in time with its zone."""
_LONGEST: Final = timedelta(days=3653)


def begins_of(start_after: StartAfter | None) -> timedelta | datetime | None:
    """When a run begins; None: at once.

    Raises:
        UsageError: that is neither a length of time of at most ten years, nor a time with its zone.
    """
    if isinstance(start_after, datetime):
        if start_after.tzinfo is None:
            raise UsageError(f"start_after={start_after!r} has no zone. Fix: give it one, such as `tzinfo=UTC`.")
        if not in_range(start_after):
            raise UsageError(f"start_after={start_after!r} is beyond the year 9999. Fix: give an earlier time.")
        return start_after
    if start_after is None:
        return None
    try:
        length = parse_duration(start_after)
    except DurationInvalid as exc:
        raise UsageError(f"start_after={start_after!r}: {exc.message}") from exc
    if length > _LONGEST:
        raise UsageError(f"start_after={start_after!r} is longer than ten years. Fix: give a shorter one.")
    return length or None
