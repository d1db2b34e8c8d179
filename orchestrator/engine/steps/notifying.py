"""Notify observers of what an outcome led to. To be called by whoever committed it, after the commit."""

from dataclasses import dataclass

from orchestrator.core.facts import Dispatch, Failure, Finished, StartedRun, StepOf
from orchestrator.core.happened import Accepted, Ended, Failed, Run, Skipped, Split, Step
from orchestrator.observe.observer import notify


@dataclass(frozen=True, slots=True)
class EndedByUs:
    """An attempt, or the wait for one, that was ended by somebody other than its worker."""

    step: StepOf
    failure: Failure
    finished: Finished


def notify_ended(ended: EndedByUs) -> tuple[Dispatch, ...]:
    """Also of what followed; the dispatches are for the caller to publish."""
    finished = ended.finished
    notify(Failed(ended.step, ended.failure, finished.attempt or ended.failure.status, again=finished.again))
    notify_followed(ended.step, finished)
    return finished.dispatches


def notify_followed(run: Run, finished: Finished, by: Step | None = None) -> None:
    """The runs that its steps started or went on with, and what followed in these; the steps that were skipped; the end
    of the run."""
    for called in finished.called:
        if not called.again:
            notify(Accepted(called))
        notify_followed(called, called.opened)
    for step in finished.skipped:
        notify(Skipped(step))
    if finished.split:
        notify(Split(run))
    ended = end_of(run, finished, by)
    if ended is not None:
        notify(ended)


def end_of(run: Run, finished: Finished, by: Step | None = None) -> Ended | None:
    """The fact that the run ended, if it did."""
    if finished.run_status is None or finished.run_took is None:
        return None
    return Ended(run, finished.run_status, finished.run_took.total_seconds(), by)


def notify_started(run: Run, started: StartedRun) -> None:
    """That the request for it was accepted, if it was not known already, and what followed at once."""
    if started.created:
        notify(Accepted(run))
    if started.opened is not None:
        notify_followed(run, started.opened)


def step_of(dispatch: Dispatch, attempt: int | None = None) -> StepOf:
    """The step of a dispatch: what started its run was not read."""
    flow, _, kind = dispatch.task.rpartition(".")
    return StepOf(dispatch.run_id, flow, None, dispatch.step_key, kind, dispatch.queue, attempt)
