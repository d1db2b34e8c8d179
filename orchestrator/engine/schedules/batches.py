"""What deciding ticks led to, and going through many of them: what is wrong with one is in nobody's way."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Dispatch
from orchestrator.ledger.schedules import ScheduleId
from orchestrator.ledger.tx import is_disconnect

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fired:
    """What ticks led to; the dispatches are for the caller to publish. `more`: call again. `unfinished`: schedules of
    which more ticks are due than one transaction starts."""

    decided: int = 0
    started: tuple[UUID, ...] = ()
    dispatches: tuple[Dispatch, ...] = ()
    doubles: int = 0
    more: bool = False
    unfinished: tuple[ScheduleId, ...] = ()

    def __add__(self, other: "Fired") -> "Fired":
        return Fired(
            self.decided + other.decided,
            self.started + other.started,
            self.dispatches + other.dispatches,
            self.doubles + other.doubles,
            self.more or other.more,
            self.unfinished + other.unfinished,
        )


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """How far it came. `left`: what the loss of the database left over; `error`: the last one that it gave."""

    fired: Fired
    progress: bool
    left: tuple[T, ...] = ()
    error: DBAPIError | None = None


def run_batches(pieces: Iterable[Sequence[T]], work: Callable[[Sequence[T]], Fired | None]) -> Batch[T]:
    """Do `work`, a transaction, for each piece; it gives None when that was no progress.

    A piece that fails is done again in halves, down to the one that is guilty, which is logged. A lost database ends
    it: what was committed is told.

    Raises:
        DBAPIError: the database was lost before there was any progress.
    """
    left = deque(pieces)
    total, progress, error = Fired(), False, None
    while left:
        piece = left.popleft()
        try:
            found = work(piece)
        except Exception as exc:
            lost = is_disconnect(exc)
            if lost and not progress:
                raise
            if len(piece) > 1 and not lost:
                half = len(piece) // 2
                left.extendleft((piece[half:], piece[:half]))
                continue
            error = exc if isinstance(exc, DBAPIError) else error
            _log(piece, exc)
            if lost:
                return Batch(total, progress, tuple(one for part in (piece, *left) for one in part), error)
            continue
        if found is not None:
            total, progress = total + found, True
    return Batch(total, progress, error=error)


def _log(piece: Sequence[object], exc: Exception) -> None:
    facts = {"row": str(piece[0])[:200]}
    if isinstance(exc, DBAPIError):
        log.warning("tick.failed", extra={**facts, "error": str(exc.orig)[:200]})
    else:
        log.error("tick.failed", extra=facts, exc_info=exc)
