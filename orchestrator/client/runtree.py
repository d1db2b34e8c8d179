"""A run and the runs below it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from orchestrator.core.states import RunStatus
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import ChildRow

if TYPE_CHECKING:
    from orchestrator.client.run_handle import RunHandle

MOST: Final = 50
"""Runs of one run that are shown."""
LIMIT: Final = 1000
"""Runs that are read."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A run, and those that it called; `more`: there are others. `step` is the one that called it."""

    id: UUID
    flow: str
    step: str
    status: RunStatus
    children: "tuple[Branch, ...]"
    more: bool


@dataclass(frozen=True, slots=True)
class RunTree:
    """A run with the runs below it. `cut`: only the nearest ones are there."""

    id: UUID
    flow: str
    status: RunStatus
    children: tuple[Branch, ...]
    more: bool
    cut: bool


def read(handle: "RunHandle[Any]") -> RunTree:
    """In one statement for what is below it."""
    row = handle.row()
    called = handle.client.call(reads.children.tree, handle.id, MOST + 1, LIMIT)
    cut = sum(map(len, called.values())) == LIMIT
    return RunTree(row.id, row.flow, row.status, _below(called, row.id), _more(called, row.id), cut)


def _below(called: Mapping[UUID, Sequence[ChildRow]], run_id: UUID) -> tuple[Branch, ...]:
    return tuple(
        Branch(row.id, row.flow, row.step, row.status, _below(called, row.id), _more(called, row.id))
        for row in called.get(run_id, ())[:MOST]
    )


def _more(called: Mapping[UUID, Sequence[ChildRow]], run_id: UUID) -> bool:
    return len(called.get(run_id, ())) > MOST
