"""A run of a world, as a test sees it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import JsonValue

from orchestrator.authoring.step import Step
from orchestrator.client.run_handle import RunHandle
from orchestrator.core.facts import Explanation
from orchestrator.core.states import FINAL_RUN, RunStatus, StepStatus
from orchestrator.ledger.reads.rows import AttemptRow, EventRow

if TYPE_CHECKING:
    from uuid import UUID

R = TypeVar("R")
R_ = TypeVar("R_")


class SimRun(Generic[R]):
    """One run. Everything is read from the ledger when it is asked for; `handle` has what is not here."""

    def __init__(self, handle: RunHandle[R], work: Callable[[], None]) -> None:
        self.handle = handle
        self._work = work

    def __repr__(self) -> str:
        return f"<run {self.id}: {self.status}>"

    @property
    def id(self) -> "UUID":
        """Its id."""
        return self.handle.id

    @property
    def status(self) -> RunStatus:
        """Where it stands; compares with a string."""
        return self.handle.status()

    @property
    def ended(self) -> bool:
        """Whether it has ended, however."""
        return self.status in FINAL_RUN

    def result(self) -> R:
        """What the flow returned.

        Raises:
            AssertionError: it has not ended; the text says what it waits for.
            RunFailed, RunTimedOut, RunCancelled: it ended otherwise.
        """
        status = self.status
        if status not in FINAL_RUN:
            raise AssertionError(
                f"Run {self.id} has not ended. {self.explain().sentence} "
                "Fix: `world.advance(…)` lets time pass, `world.finish(run)` as much as it takes."
            )
        return self.handle.outcome(status)

    @property
    def steps(self) -> dict[str, StepStatus]:
        """Every step with its status, those in loops too."""
        return {step.key: step.status for step in self.handle.all_steps()}

    @property
    def skipped(self) -> dict[str, str]:
        """The steps that were skipped, each with the reason."""
        return self._reasons(StepStatus.SKIPPED)

    @property
    def waiting(self) -> dict[str, str]:
        """The steps that wait for a time, each with what it waits for."""
        found = (step for step in self.handle.all_steps() if step.status is StepStatus.WAITING)
        return {step.key: self.explain(step.key).sentence for step in found}

    @property
    def children(self) -> "list[SimRun[Any]]":
        """The runs that its steps called, the first one first."""
        rows = self.handle.children(limit=1000)
        return [SimRun(RunHandle(self.handle.client, row.id), self._work) for row in rows]

    def output(self, step: Step[..., Any] | str) -> JsonValue:
        """What a step returned, as JSON."""
        return self.handle.output(_key(step))

    def attempts(self, step: Step[..., Any] | str) -> list[AttemptRow]:
        """The attempts of a step, the first one first."""
        return self.handle.attempts(_key(step))

    @property
    def events(self) -> list[EventRow]:
        """Its whole history."""
        return list(self.handle.all_events())

    def explain(self, step: Step[..., Any] | str | None = None) -> Explanation:
        """What it, or one of its steps, waits for."""
        return self.handle.explain(None if step is None else _key(step))

    def graph(self, language: str = "tree") -> str:
        """It as a drawing, with where its steps stand."""
        return self.handle.graph(language)

    def cancel(self, reason: str = "") -> RunStatus:
        """As an operator does."""
        return self.handle.cancel(reason, by="the test")

    def retry(self, step: Step[..., Any] | str | None = None, *, force: bool = False, fresh: bool = False) -> None:
        """As an operator does: a failed step, or all of them; then the run goes as far as it can.

        Raises:
            As `RunHandle.retry`.
        """
        self.handle.retry(None if step is None else _key(step), by="the test", force=force, fresh=fresh)
        self._work()

    def skip(self, step: Step[..., Any] | str, reason: str = "in a test") -> None:
        """As an operator does; then the run goes as far as it can."""
        self.handle.skip(_key(step), reason, by="the test")
        self._work()

    def mark(self, step: Step[..., R_] | str, output: R_, reason: str = "in a test") -> None:
        """As an operator does, who did by hand what the step is there for; then the run goes as far as it can."""
        self.handle.mark(_key(step), output, reason, by="the test")
        self._work()

    def rerun(
        self, from_step: Step[..., Any] | str | None = None, *, input: Mapping[str, Any] | None = None
    ) -> "SimRun[R]":
        """As an operator does: a new run, whole or from a step on, which goes as far as it can.

        Raises:
            As `RunHandle.rerun`.
        """
        key = None if from_step is None else _key(from_step)
        made = SimRun(self.handle.rerun(key, input=input, by="the test"), self._work)
        self._work()
        return made

    def _reasons(self, status: StepStatus) -> dict[str, str]:
        return {step.key: step.reason or "" for step in self.handle.all_steps() if step.status is status}


def _key(step: Step[..., Any] | str) -> str:
    """A step stands for the key of its first call."""
    return step if isinstance(step, str) else step.key or step.type
