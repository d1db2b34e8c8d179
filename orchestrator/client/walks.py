"""Everything of a run, or of an operation, a page at a time: the same over a database and over HTTP."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from orchestrator.core.operations import Outcome
from orchestrator.core.states import StepKind, StepStatus
from orchestrator.ledger.logs import BEGIN, LogLine, Place
from orchestrator.ledger.operations import OutcomeRow
from orchestrator.ledger.reads.rows import EventRow, StepRow
from orchestrator.ledger.reads.steps import FOLD, PAGE

_OUTCOMES: Final = 500


class RunWalks(ABC):
    """What a handle of a run gives whole, by its pages."""

    @abstractmethod
    def steps(
        self,
        *,
        loop: str | None = None,
        status: StepStatus | str | None = None,
        after: str | None = None,
        limit: int = PAGE,
        fold: int = FOLD,
    ) -> list[StepRow]: ...

    @abstractmethod
    def _below(self, loop: str, after: str | None) -> list[StepRow]:
        """A page of a loop's children, items followed by their steps, from the child after the one that `after` is, or
        is in."""

    @abstractmethod
    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]: ...

    @abstractmethod
    def logs(self, step: str | None = None, *, after: Place = BEGIN, limit: int = 100) -> list[LogLine]: ...

    def all_steps(self) -> Iterator[StepRow]:
        """Every step, a page at a time; loops are followed by all that is in them."""
        return self._all(None)

    def _all(self, loop: str | None) -> Iterator[StepRow]:
        after = None
        while page := self.steps(after=after, fold=0) if loop is None else self._below(loop, after):
            for step in page:
                yield step
                if step.kind is StepKind.LOOP and step.children_total:
                    yield from self._all(step.key)
            after = page[-1].key

    def all_events(self, *, after: int = 0) -> Iterator[EventRow]:
        """Its history from the event after `after`, a page at a time."""
        while page := self.events(after=after):
            yield from page
            after = page[-1].id

    def all_logs(self, step: str | None = None) -> Iterator[LogLine]:
        """All that its handlers, or those of one step, logged and printed, a page at a time."""
        after = BEGIN
        while page := self.logs(step, after=after):
            yield from page
            after = page[-1].place


class OutcomeWalks(ABC):
    """What a handle of an operation gives whole, by its pages."""

    @abstractmethod
    def outcomes(
        self, *, outcome: Outcome | str | None = None, after: UUID | None = None, limit: int = 50
    ) -> list[OutcomeRow]: ...

    def all_outcomes(self, *, outcome: Outcome | str | None = None) -> Iterator[OutcomeRow]:
        """What became of every run, a page at a time."""
        after = None
        while page := self.outcomes(outcome=outcome, after=after, limit=_OUTCOMES):
            yield from page
            after = page[-1].run_id
