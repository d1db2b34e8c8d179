"""A run as it stands, with its steps; and, where that is asked for, the runs that they called, and theirs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyRun
    from orchestrator.ledger.reads.rows import RunRow, StepRow

_MOST: Final = 50
"""Called runs of one run that are followed."""


@dataclass(frozen=True, slots=True)
class Stand:
    """One run. `called`: by the key of the step."""

    run: "RunRow"
    steps: "Sequence[StepRow]"
    called: "Mapping[str, Sequence[Stand]]" = field(default_factory=dict)

    def all(self) -> "Iterator[Stand]":
        """It, and all that are below it."""
        yield self
        for runs in self.called.values():
            for one in runs:
                yield from one.all()


def stand(handle: "AnyRun", *, deep: bool, fold: int = 20) -> Stand:
    """How it stands now; loops of more than `fold` children without these."""
    kind: Any = type(handle)
    run, steps = handle.row(), handle.steps(fold=fold)
    called: dict[str, list[Stand]] = {}
    for row in handle.children(limit=_MOST) if deep else ():
        below = stand(kind(handle.client, row.id), deep=True, fold=fold)
        called.setdefault(row.step, []).append(below)
    return Stand(run, steps, called)
