"""Runs that were started in one call are looked at together."""

from collections.abc import Sequence
from itertools import islice
from typing import Final
from uuid import UUID

from orchestrator.client.access import Access
from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads

_TOGETHER: Final = 16
"""The most runs of one look."""


class Siblings:
    """In the order of their starts, in which they end, more or less. Safe to use from several threads."""

    def __init__(self, run_ids: Sequence[UUID]) -> None:
        self._ids = run_ids
        self._places = {run_id: place for place, run_id in enumerate(run_ids)}
        self._succeeded: set[UUID] = set()
        """Those that were seen beside another one. A failed run may be retried: how that ended is always read."""

    def final_status(self, client: Access, run_id: UUID) -> RunStatus | None:
        """How it ended, or None; the next ones are looked at in the same statement.

        Raises:
            RunNotFound: no such run.
        """
        if run_id in self._succeeded:
            return RunStatus.SUCCEEDED
        found = client.call(reads.runs.statuses, self._from(run_id))
        self._succeeded.update(one for one, status in found.items() if status is RunStatus.SUCCEEDED)
        return reads.runs.end_of(run_id, found)

    def _from(self, run_id: UUID) -> list[UUID]:
        """It and the next ones, as far as it is not known that they succeeded."""
        following = islice(self._ids, self._places[run_id] + 1, None)
        others = (one for one in following if one not in self._succeeded)
        return [run_id, *islice(others, _TOGETHER - 1)]
