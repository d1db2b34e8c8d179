"""Points in time, as people write them and as JSON holds them (ISO 8601)."""

from datetime import UTC, datetime


def parse_time(value: object) -> datetime | None:
    """The time that a text says, with its offset or without; None for anything else, and for one that lies outside of
    the years 1 to 9999 of UTC: it could be stored, and never be read again."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is not None and in_range(found) else None


def in_range(time: datetime) -> bool:
    """Whether it can be told in UTC."""
    try:
        return time.tzinfo is None or time.astimezone(UTC) is not None
    except OverflowError:
        return False
