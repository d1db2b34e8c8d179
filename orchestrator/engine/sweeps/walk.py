"""A keeper's way through the rows that are due: one that cannot be done is skipped, and rests."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from orchestrator.core.facts import Dispatch, Swept
from orchestrator.engine.batches import run_batches
from orchestrator.errors import ManifestUnreadable
from orchestrator.ledger.sweeps import START, Position

PAGE: Final = 500
_REST: Final = timedelta(seconds=15)
_LONGEST: Final = 8
"""A row that fails again and again rests for at most this many times `rest`."""
_REMEMBERED: Final = 50_000
_Key = tuple[UUID, str] | str
"""Of a row; or of a manifest: its hash."""
log = logging.getLogger(__name__)


def _keys(row: Row[Any]) -> tuple[_Key, _Key]:
    return (row.run_id, row.step_key), row.manifest_hash


class Walk:
    """Page after page in the order of their times, and again from the first one behind the last.

    A full page of rows that nobody can do does not block those behind it: the next page begins there. A row that failed
    rests, longer each time, and so do all rows of a manifest that cannot be read, once one of them was tried; an error
    is logged once: 500 bad rows do not cost 500 transactions and tracebacks in every sweep. Kept by one thread, from
    call to call.
    """

    def __init__(self, page: int = PAGE, rest: timedelta = _REST) -> None:
        self.page = page
        self.position: Position = START
        self._rest_s = rest.total_seconds()
        self._failed: dict[_Key, tuple[float, float]] = {}
        """Until when it rests, and for how long."""
        self._said: set[str] = set()

    def go(self, rows: Sequence[Row[Any]], work: Callable[[Row[Any]], tuple[Dispatch, ...] | None]) -> Swept:
        """Do `work`, a transaction, for each row of a page; it gives None for a row that it left alone.

        Raises:
            DBAPIError: the database was lost before anything was done.
        """
        return self.go_in(rows, [[row] for row in rows], lambda piece: work(piece[0]))

    def go_in(
        self,
        rows: Sequence[Row[Any]],
        pieces: Sequence[Sequence[Row[Any]]],
        work: Callable[[Sequence[Row[Any]]], tuple[Dispatch, ...] | None],
    ) -> Swept:
        """The same for several rows in one transaction; those that rest are left out of it. One that fails is done
        again in halves."""
        unreadable = False

        def failed(row: Row[Any], exc: Exception) -> None:
            nonlocal unreadable
            unreadable = unreadable or isinstance(exc, ManifestUnreadable)
            self._fail(row, exc)

        batch = run_batches(pieces, lambda piece: self._piece(piece, work), failed)
        full = len(rows) >= self.page
        if not batch.left:
            self.position = Position(rows[-1].at, rows[-1].run_id, rows[-1].step_key) if full else START
        dispatches = tuple(dispatch for each in batch.done for dispatch in each)
        return Swept(len(batch.done), dispatches, more=full and batch.progress, unreadable=unreadable)

    def _piece(
        self, piece: Sequence[Row[Any]], work: Callable[[Sequence[Row[Any]]], tuple[Dispatch, ...] | None]
    ) -> tuple[Dispatch, ...] | None:
        awake = [row for row in piece if not self._rests(row)]
        found = work(awake) if awake else None
        for key in (key for row in awake for key in _keys(row)):
            self._failed.pop(key, None)
        return found

    def _rests(self, row: Row[Any]) -> bool:
        now = monotonic()
        return any(self._failed[key][0] > now for key in _keys(row) if key in self._failed)

    def _fail(self, row: Row[Any], exc: Exception) -> None:
        if len(self._failed) >= _REMEMBERED:
            self._failed.clear()
        own, manifest = _keys(row)
        key = manifest if isinstance(exc, ManifestUnreadable) else own
        _, before = self._failed.get(key, (0.0, self._rest_s / 2))
        rest = min(2 * before, _LONGEST * self._rest_s)
        self._failed[key] = (monotonic() + rest, rest)
        said = f"{type(exc).__name__}: {exc}".split("\n")[0][:300]
        if said in self._said:
            return
        if len(self._said) >= 1000:
            self._said.clear()
        self._said.add(said)
        facts = {"run_id": row.run_id, "step_key": row.step_key, "error": said}
        if isinstance(exc, ManifestUnreadable):
            log.warning(
                "manifest.unreadable", extra={**facts, "fix": "a keeper of its release does it; keep one running"}
            )
        else:
            log.error("sweep.row_failed", extra=facts, exc_info=exc)
