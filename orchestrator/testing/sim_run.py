"""A run of a world, as a test sees it."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import JsonValue

from orchestrator.authoring.step import Step
from orchestrator.client.run_handle import RunHandle
from orchestrator.core.facts import Explanation
from orchestrator.core.states import FINAL_RUN, RunStatus, StepStatus
from orchestrator.ledger.reads.rows import AttemptRow, EventRow, StepRow

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
        """Every step with its status: those in loops, too (`each.0.do`), and those of the runs that steps called
        (`ship/pack`)."""
        return {path: step.status for path, _, step in self._every()}

    @property
    def skipped(self) -> dict[str, str]:
        """The steps that were skipped, each with the reason."""
        return self._reasons(StepStatus.SKIPPED)

    @property
    def waiting(self) -> dict[str, str]:
        """The steps that wait for a time, each with what it waits for."""
        found = ((path, run, step.key) for path, run, step in self._every() if step.status is StepStatus.WAITING)
        return {path: run.explain(key).sentence for path, run, key in found}

    @property
    def children(self) -> "list[SimRun[Any]]":
        """The runs that its steps called, the first one first."""
        rows = self.handle.children(limit=1000)
        return [self._run(row.id) for row in rows]

    def called(self, step: Step[..., Any] | str) -> "SimRun[Any]":
        """The run that a step called, or called last.

        Raises:
            AssertionError: it has called none.
        """
        run, key = self.at(step)
        child = run.step(key).child
        if child is None:
            raise AssertionError(f"Step {key} of run {run.id} has called no run. {run.explain(key).sentence}")
        return self._run(child)

    def at(self, step: Step[..., Any] | str) -> tuple[RunHandle[Any], str]:
        """The run and the key of a step: a path leads to the runs that steps called."""
        way, slash, key = _key(step).rpartition("/")
        return (self.called(way).handle, key) if slash else (self.handle, key)

    def output(self, step: Step[..., Any] | str) -> JsonValue:
        """What a step returned, as JSON."""
        run, key = self.at(step)
        return run.output(key)

    def attempts(self, step: Step[..., Any] | str) -> list[AttemptRow]:
        """The attempts of a step, the first one first."""
        run, key = self.at(step)
        return run.attempts(key)

    @property
    def events(self) -> list[EventRow]:
        """Its whole history."""
        return list(self.handle.all_events())

    def explain(self, step: Step[..., Any] | str | None = None) -> Explanation:
        """What it, or one of its steps, waits for."""
        run, key = (self.handle, None) if step is None else self.at(step)
        return run.explain(key)

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
        run, key = (self.handle, None) if step is None else self.at(step)
        run.retry(key, by="the test", force=force, fresh=fresh)
        self._work()

    def skip(self, step: Step[..., Any] | str, reason: str = "in a test") -> None:
        """As an operator does; then the run goes as far as it can."""
        run, key = self.at(step)
        run.skip(key, reason, by="the test")
        self._work()

    def mark(self, step: Step[..., R_] | str, output: R_, reason: str = "in a test") -> None:
        """As an operator does, who did by hand what the step is there for; then the run goes as far as it can."""
        run, key = self.at(step)
        run.mark(key, output, reason, by="the test")
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
        return {path: step.reason or "" for path, _, step in self._every() if step.status is status}

    def _every(self) -> Iterator[tuple[str, RunHandle[Any], StepRow]]:
        """Each step, below which path, and of which run."""
        for step in self.handle.all_steps():
            yield step.key, self.handle, step
            if step.child is not None:
                for path, run, below in self._run(step.child)._every():
                    yield f"{step.key}/{path}", run, below

    def _run(self, id: "UUID") -> "SimRun[Any]":
        return SimRun(RunHandle(self.handle.client, id), self._work)


def _key(step: Step[..., Any] | str) -> str:
    """A step stands for the key of its first call."""
    return step if isinstance(step, str) else step.key or step.type
