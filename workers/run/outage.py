"""Waiting for a database that went away: bounded, with growing pauses, never a blind repeat."""

import random
from collections.abc import Callable
from time import monotonic, sleep
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError

from orchestrator.ledger.tx import is_disconnect
from orchestrator.observe.logs import log

T = TypeVar("T")

_FIRST_S: Final = 0.05
_CAP_S: Final = 2.0
# Ended before any commit: statement timeout, lock timeout, deadlock, serialization failure, read-only standby.
_NOT_DONE: Final = frozenset({"57014", "55P03", "40P01", "40001", "25006"})


class GaveUp(Exception):
    """The database stayed away for too long; the lease runs out and the ledger re-dispatches."""


def passing(exc: BaseException) -> bool:
    """Whether asking again later may help. After a disconnect the outcome is unknown: re-read first."""
    return is_disconnect(exc) or (isinstance(exc, DBAPIError) and getattr(exc.orig, "sqlstate", None) in _NOT_DONE)


class Outage:
    """Pauses that double up to two seconds, until `total_s` have passed or `hurry` says so."""

    def __init__(self, total_s: float, hurry: Callable[[], bool] = lambda: False) -> None:
        self._until = monotonic() + total_s
        self._hurry = hurry
        self._pause = _FIRST_S
        self.tried = False
        """Whether something failed before: its outcome may be unknown."""

    def wait(self, exc: BaseException, doing: str) -> None:
        """Pause after a failure.

        Raises:
            GaveUp: it has been too long.
        """
        if not self.tried:
            log.warning("database.away", extra={"doing": doing, "error": type(exc.__cause__ or exc).__name__})
        self.tried = True
        if monotonic() >= self._until or self._hurry():
            raise GaveUp(doing) from exc
        sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(self._pause * 2, _CAP_S)


def retry_through_outage(outage: Outage, doing: str, work: Callable[[], T]) -> T:
    """Repeat a read, or a write that is safe to repeat, until it works.

    Raises:
        GaveUp: it has been too long.
    """
    while True:
        try:
            return work()
        except DBAPIError as exc:
            if not passing(exc):
                raise
            outage.wait(exc, doing)
