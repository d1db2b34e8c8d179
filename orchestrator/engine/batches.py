"""Going through many rows, a transaction for each or for some: a bad row does not hold up the others."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from orchestrator.ledger.tx import is_disconnect

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Batch(Generic[T, R]):
    """How far it got. `done`: what came of each piece that made progress. `left`: what the loss of the database left
    over; `error`: the last error of the database."""

    done: tuple[R, ...]
    left: tuple[T, ...] = ()
    error: DBAPIError | None = None

    @property
    def progress(self) -> bool:
        """Whether anything came of it."""
        return bool(self.done)


def run_batches(
    pieces: Iterable[Sequence[T]],
    work: Callable[[Sequence[T]], R | None],
    failed: Callable[[T, Exception], None],
) -> Batch[T, R]:
    """Do `work`, a transaction, for each piece; it gives None when that was no progress.

    A piece that fails is done again in halves, down to the one row that is to blame, for which `failed` is called. A
    lost database ends it: what was committed is returned.

    Raises:
        DBAPIError: the database was lost before there was any progress.
    """
    left = deque(pieces)
    done: list[R] = []
    error: DBAPIError | None = None
    while left:
        piece = left.popleft()
        try:
            found = work(piece)
        except Exception as exc:
            lost = is_disconnect(exc)
            if lost and not done:
                raise
            if len(piece) > 1 and not lost:
                half = len(piece) // 2
                left.extendleft((piece[half:], piece[:half]))
                continue
            error = exc if isinstance(exc, DBAPIError) else error
            failed(piece[0], exc)
            if lost:
                return Batch(tuple(done), tuple(one for part in (piece, *left) for one in part), error)
            continue
        if found is not None:
            done.append(found)
    return Batch(tuple(done), error=error)
