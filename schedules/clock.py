"""The ledger's time, in a process whose own clock may be wrong, or be set while it runs."""

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

_PATIENCE_S: Final = 10.0


class LedgerClock:
    """Follows the monotonic clock from the last time that the ledger gave. Safe to use from several threads."""

    def __init__(self) -> None:
        self._made = monotonic()
        self._told: tuple[datetime, float] | None = None

    def tell(self, now: datetime, at: float) -> None:
        """It was `now` at `at` on the monotonic clock."""
        self._told = now, at

    @property
    def is_set(self) -> bool:
        """Whether `now` can be used: the ledger gave its time, or we have waited long enough for it."""
        return self._told is not None or monotonic() - self._made > _PATIENCE_S

    def now(self) -> datetime:
        """The ledger's time; until it is known, that of this host."""
        told = self._told
        if told is None:
            return datetime.now(UTC)
        now, at = told
        return now + timedelta(seconds=monotonic() - at)
