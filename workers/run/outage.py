"""Waiting for a database that went away: bounded, with growing pauses, never a blind repeat."""

import math
import random
from collections.abc import Callable
from time import monotonic, sleep
from typing import Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.errors import PayloadUnavailable
from orchestrator.ledger.passing import passing
from orchestrator.ledger.tx import is_disconnect
from orchestrator.observe.logs import log

T = TypeVar("T")

_FIRST_S: Final = 0.05
_CAP_S: Final = 2.0


class GaveUp(Exception):
    """The database stayed away for too long; the lease runs out and the ledger re-dispatches."""


def event_of(exc: BaseException) -> str:
    """What the log calls it: a server that is there and has no room for us now is not away."""
    if isinstance(exc, PayloadUnavailable):
        return "payload.store_away"
    return "database.away" if is_disconnect(exc) else "database.busy"


def reason(exc: BaseException) -> str:
    """What the driver or the server said, in one line and without our SQL."""
    cause = getattr(exc, "orig", None) or exc
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]


class Outage:
    """Pauses that double up to two seconds, until `total_s` have passed or `hurry` says so."""

    def __init__(
        self, total_s: float, hurry: Callable[[], bool] = lambda: False, *, repeat_s: float = math.inf
    ) -> None:
        """With `repeat_s` the log says so again, for whoever waits and sees nothing else."""
        self._until = monotonic() + total_s
        self._hurry = hurry
        self._pause = _FIRST_S
        self._repeat_s = repeat_s
        self._say_at = -math.inf
        self.tried = False
        """Whether something failed before: its outcome may be unknown."""

    def wait(self, exc: BaseException, doing: str) -> None:
        """Pause after a failure.

        Raises:
            GaveUp: it has been too long.
        """
        now = monotonic()
        if now >= self._say_at:
            log.warning(event_of(exc), extra={"doing": doing, "error": reason(exc)})
            self._say_at = now + self._repeat_s
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
        except SQLAlchemyError as exc:
            if not passing(exc):
                raise
            outage.wait(exc, doing)
