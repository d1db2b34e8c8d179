"""Notify observers of what an outcome led to. To be called by whoever committed it, after the commit."""

from dataclasses import dataclass

from orchestrator.core.facts import Dispatch, Failure, Finished, StepOf
from orchestrator.core.happened import Ended, Failed, Run, Skipped, Step
from orchestrator.observe.observer import notify


@dataclass(frozen=True, slots=True)
class EndedByUs:
    """An attempt, or the wait for one, that was ended by somebody other than its worker."""

    step: StepOf
    failure: Failure
    finished: Finished


def notify_ended(ended: EndedByUs) -> tuple[Dispatch, ...]:
    """Also of what followed; the dispatches are for the caller to publish."""
    notify(Failed(ended.step, ended.failure, ended.finished.attempt or ended.failure.status))
    notify_followed(ended.step, ended.finished)
    return ended.finished.dispatches


def notify_followed(run: Run, finished: Finished, by: Step | None = None) -> None:
    """The steps that were skipped, and the end of the run."""
    for step in finished.skipped:
        notify(Skipped(step))
    if finished.run_status is not None:
        notify(Ended(run, finished.run_status, by))


def step_of(dispatch: Dispatch, attempt: int | None = None) -> StepOf:
    """The step of a dispatch: what started its run was not read."""
    flow, _, kind = dispatch.task.rpartition(".")
    return StepOf(dispatch.run_id, flow, None, dispatch.step_key, kind, dispatch.queue, attempt)
