"""Steps of a run: pages of them, one with its attempts, and what is done to one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request, Response

from orchestrator.core.states import StepStatus
from orchestrator.engine.runs import reveal, shown
from orchestrator.http.answers import check_answers
from orchestrator.http.caller import TheActor, TheCaller
from orchestrator.http.models import Mark, Retry, Skip, Standing, Value, Why
from orchestrator.http.paging import KEY, MOST_SMALL, Cursor, Limit, Page, page, place
from orchestrator.http.parameters import StepKey, TheRun
from orchestrator.http.problems import Refused
from orchestrator.http.routes import router as make
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import AttemptRow, StepRow

router = make("steps")


@dataclass(frozen=True, slots=True)
class StepShown:
    """A step with its last attempts."""

    step: StepRow
    attempts: Sequence[AttemptRow]


@router.get("/runs/{run_id}/steps")
def run_steps(
    request: Request,
    response: Response,
    run: TheRun,
    loop: Annotated[str | None, Query(max_length=400, description="Only the children of this loop.")] = None,
    status: StepStatus | None = None,
    fold: Annotated[int, Query(ge=0, le=500, description="Loops of up to so many children are shown with them.")] = (
        reads.steps.FOLD
    ),
    whole: Annotated[
        bool, Query(description="With `loop`: items are followed by their steps; `limit` counts items.")
    ] = (False),
    after: Annotated[str | None, Query(max_length=400, description="Only those after the step of this key.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[StepRow]:
    """Its steps in the order of the flow; loops with the counts of their children, followed by these where they are
    few. With `loop`, a page of its children."""
    begin = place(request, cursor, KEY) or after
    if whole:
        if loop is None or status is not None:
            raise Refused(
                400, "The items of a loop are whole, with all their steps.", fix="name the `loop`, no `status`."
            )
        rows = run.client.call(reads.steps.below, run.id, loop, after=begin, limit=limit + 1)
        limit = _end_of_children(rows, loop, limit)
    else:
        rows = run.steps(loop=loop, status=status, after=begin, limit=limit + 1, fold=fold)
    return page(request, response, rows, limit, lambda row: row.key)


def _end_of_children(rows: Sequence[StepRow], loop: str, most: int) -> int:
    """How many of the rows are of the first `most` children."""
    children = [place for place, row in enumerate(rows) if row.key.rpartition(".")[0] == loop]
    return len(rows) if len(children) <= most else children[most]


@router.get("/runs/{run_id}/steps/{step}")
def step_show(
    run: TheRun,
    step: StepKey,
    before: Annotated[int | None, Query(ge=1, le=MOST_SMALL, description="Attempts before this one.")] = None,
    attempts: Annotated[int, Query(ge=0, le=100, description="So many attempts.")] = 10,
) -> StepShown:
    """One step, with its last attempts: each with its owner, times, error and inputs; secrets are `***`."""
    found = run.step(step)
    return StepShown(found, run.attempts(step, before=before, limit=attempts) if attempts else [])


@router.get("/runs/{run_id}/steps/{step}/output")
def step_output(run: TheRun, step: StepKey) -> Value:
    """What it returned."""
    return Value.of(run.client.call(shown.seen_output, run.id, step))


@router.post("/runs/{run_id}/steps/{step}/output/reveal")
def step_reveal(run: TheRun, step: StepKey, actor: TheActor, why: Why | None = None) -> Value:
    """What it returned, with its secrets. The audit has who asked, before they are told."""
    return Value(value=run.client.call(reveal.output, run.id, step, actor, why.reason if why else None))


@router.post("/runs/{run_id}/steps/{step}/retry", status_code=202)
def step_retry(run: TheRun, step: StepKey, caller: TheCaller, how: Retry | None = None) -> Standing:
    """Run a failed step again, and what was skipped because of it."""
    how = how or Retry()
    run.retry(step, by=caller.name, force=how.force, fresh=how.fresh)
    return Standing(id=run.id, status=run.status())


@router.post("/runs/{run_id}/steps/{step}/skip", status_code=202)
def step_skip(run: TheRun, step: StepKey, caller: TheCaller, how: Skip) -> Standing:
    """Leave it out. What asks somebody is left out by an admin only."""
    check_answers(caller, run, [step])
    run.skip(step, how.reason, by=caller.name)
    return Standing(id=run.id, status=run.status())


@router.post("/runs/{run_id}/steps/{step}/mark", status_code=202)
def step_mark(run: TheRun, step: StepKey, caller: TheCaller, how: Mark) -> Standing:
    """Say that it has succeeded, with this output: somebody did by hand what it is there for. What asks somebody is
    marked by an admin only."""
    check_answers(caller, run, [step])
    run.mark(step, how.output, how.reason, by=caller.name)
    return Standing(id=run.id, status=run.status())
