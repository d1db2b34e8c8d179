"""An operator runs failed steps again: a new epoch of the run."""

from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch, Finished
from orchestrator.core.happened import Operated, RunOf
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.notifying import notify_followed
from orchestrator.engine.steps.retrying import How, reopen
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.observer import notify


def retry(
    ledger: Ledger, run_id: UUID, step_key: str | None, *, by: str, force: bool = False, fresh: bool = False
) -> tuple[Dispatch, ...]:
    """Run a failed or cancelled step again, or all of them, with everything that was skipped because of them.

    Attempts are counted on from before, retries from zero. What succeeded is not run again. A deadline that has passed
    is dropped.

    A step that makes up for a failure (a refund), and succeeded or is on its way, is not taken back: what it answers
    runs again with `force` only. A step that calls a flow goes on with the run that it called, which is retried too;
    `fresh`, it starts a new one.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
        Conflict: the run succeeded or is being stopped, the step did not fail, was compensated, or could not run now
            either. Of two operators at once, one gets this.
    """

    run, finished = ledger.retry(lambda tx: retry_in(ledger, tx, run_id, step_key, How(by, force, fresh)))
    notify(Operated("retry"))
    notify_followed(run, finished)
    return finished.dispatches


def retry_in(ledger: Ledger, tx: Connection, run_id: UUID, step_key: str | None, how: How) -> tuple[RunOf, Finished]:
    """Like `retry`, as part of the caller's transaction; the caller tells what followed once that is committed."""
    reopened = reopen(ledger, tx, run_id, step_key, how)
    return reopened.held.as_fact(), advance.again(reopened)
