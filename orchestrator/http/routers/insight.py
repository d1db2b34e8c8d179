"""What becomes of runs: counts of those that ended, groups of those that failed, when steps ran, what handlers said."""

import re
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import Field, TypeAdapter

from orchestrator.http.caller import TheClient
from orchestrator.http.paging import MOST_SMALL, Cursor, Limit, Page, page, place
from orchestrator.http.parameters import Moment, TheRun, TheWanted, length, moment
from orchestrator.http.problems import Refused
from orchestrator.http.routes import router as make
from orchestrator.ledger.error_groups import ErrorGroup
from orchestrator.ledger.logs import BEGIN, LogLine, Place
from orchestrator.ledger.rollups import RunStats
from orchestrator.ledger.timelines import Timeline

router = make("insight")

Flow = Annotated[str | None, Query(max_length=100)]
OneStep = Annotated[str | None, Query(max_length=400, description="Only of this step.")]
_Number = Annotated[int, Field(ge=0, le=MOST_SMALL)]
_BATCH: Final = TypeAdapter(tuple[str, _Number, _Number])
_DIGITS: Final = re.compile(r"\d{1,9}", re.ASCII)


@router.get("/runs/stats")
def run_stats(
    client: TheClient,
    flow: Flow = None,
    since: Moment = None,
    until: Moment = None,
    every: Annotated[str | None, Query(max_length=20, description="Parts of this length, as 1h.")] = None,
) -> Page[RunStats]:
    """How many runs ended, and how long they took: by flow, version and status; of the last day, unless it is said."""
    parts = length("every", every)
    found = client.stats(flow, since=moment("since", since), until=moment("until", until), every=parts)
    return Page(items=found)


@router.get("/runs/errors")
def run_errors(
    client: TheClient,
    wanted: TheWanted,
) -> Page[ErrorGroup]:
    """What went wrong: runs whose errors are alike are one group, the most frequent first."""
    return Page(items=client.errors(**wanted))


@router.get("/runs/{run_id}/timeline")
def run_timeline(run: TheRun) -> Timeline:
    """When its steps ran, as columns."""
    return run.timeline()


@router.get("/runs/{run_id}/reruns")
def run_reruns(run: TheRun) -> Page[UUID]:
    """The last runs that were made of it, the newest first."""
    return Page(items=run.reruns())


@router.get("/runs/{run_id}/logs")
def run_logs(
    request: Request,
    response: Response,
    run: TheRun,
    step: OneStep = None,
    after: Annotated[str | None, Query(max_length=440, description="Behind this batch: STEP/ATTEMPT/NUMBER.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[LogLine]:
    """What its handlers, or those of one step, logged and printed: a page of at most `limit` batches of lines, each of
    which is whole."""
    lines = run.logs(step, after=_batch(place(request, cursor, _BATCH), after), limit=limit)
    found: Page[LogLine] = page(request, response, [*lines, *lines[-1:]], max(len(lines), 1), _place_of)
    return found


@router.get("/runs/{run_id}/logs/places")
def run_log_places(run: TheRun, step: OneStep = None) -> Page[Place]:
    """The places of all batches of lines, in the order in which they were written: for whoever follows."""
    return Page(items=run.log_places(step))


def _place_of(line: LogLine) -> list[str | int]:
    return list(line.place)


def _batch(found: tuple[str, int, int] | None, after: str | None) -> Place:
    if found is None:
        return BEGIN if after is None else _named(after)
    return Place(*found)


def _named(text: str) -> Place:
    match text.rsplit("/", 2):
        case [step, attempt, number] if _DIGITS.fullmatch(attempt) and _DIGITS.fullmatch(number):
            return Place(step, int(attempt), int(number))
    raise Refused(400, f"after={text!r} is no place of lines.", fix="write STEP/ATTEMPT/NUMBER, as `place` has them.")
