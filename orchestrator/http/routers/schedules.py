"""Schedules: everything that the command line can do with them."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from orchestrator.client.schedule_handle import MOST, ScheduleHandle, listed
from orchestrator.core.facts import Explanation
from orchestrator.core.timing.notes import Fire
from orchestrator.engine.schedules.operate import Backfill
from orchestrator.http import tags
from orchestrator.http.caller import TheActor, TheCaller, TheClient
from orchestrator.http.models import Flag, Started, Strict, Why
from orchestrator.http.paging import KEYS, NUMBER, Cursor, Limit, Page, page, place
from orchestrator.http.parameters import AfterEvent, FlowName
from orchestrator.http.routes import router as make
from orchestrator.ledger.reads.rows import EventRow
from orchestrator.ledger.schedules import Lag, ScheduleRow, TickRow

router = make("schedules")

Most = Annotated[int, Query(ge=1, le=MOST)]


class Rule(Strict):
    """A cron expression in place of the code's; without a zone it is read in the one it has now."""

    cron: Annotated[str, Field(max_length=200)]
    zone: Annotated[str, Field(max_length=100)] | None = None


class Span(Strict):
    """A run for every time in [since, until) that has none."""

    since: Annotated[str, Field(max_length=40)]
    until: Annotated[str, Field(max_length=40)]
    max_parallel: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    reverse: Flag = False
    dry_run: Flag = False


class Taken(BaseModel):
    """How many runs of a backfill were taken back."""

    count: int


def schedule_of(
    flow: FlowName, client: TheClient, key: Annotated[str, Path(max_length=100, description="Of the schedule.")]
) -> ScheduleHandle:
    return client.schedule(flow, key)


Schedule = Annotated[ScheduleHandle, Depends(schedule_of)]


@router.get("/schedules")
def schedule_ls(
    request: Request,
    response: Response,
    client: TheClient,
    flow: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ScheduleRow]:
    """The schedules of a flow, or of all, by flow and key."""
    rows = client.call(listed, flow, place(request, cursor, KEYS), limit + 1)
    return page(request, response, rows, limit, lambda row: [row.flow, row.trigger_key])


@router.get("/schedules/{flow}/{key}")
def schedule_show(schedule: Schedule, request: Request, response: Response) -> ScheduleRow:
    """Everything that is known of it. Its `ETag` is that of its rule."""
    row = schedule.row()
    response.headers["ETag"] = _tag(row)
    return row


@router.get("/schedules/{flow}/{key}/preview")
def schedule_preview(schedule: Schedule, count: Most = 10) -> Page[Fire]:
    """The next fires of its rule, on the wall of its zone and in UTC."""
    return Page(items=schedule.preview(count))


@router.get("/schedules/{flow}/{key}/history")
def schedule_history(schedule: Schedule, limit: Most = 50) -> Page[TickRow]:
    """What became of its ticks, newest first."""
    return Page(items=schedule.history(limit))


@router.get("/schedules/{flow}/{key}/events")
def schedule_events(
    request: Request,
    response: Response,
    schedule: Schedule,
    after: AfterEvent = 0,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[EventRow]:
    """Who changed it and when, and what it missed; in order."""
    rows = schedule.events(after=max(place(request, cursor, NUMBER) or 0, after), limit=limit + 1)
    return page(request, response, rows, limit, lambda row: row.id)


@router.get("/schedules/{flow}/{key}/lag")
def schedule_lag(schedule: Schedule) -> Lag:
    """How late its last ticks were."""
    return schedule.lag()


@router.get("/schedules/{flow}/{key}/explain")
def schedule_explain(schedule: Schedule) -> Explanation:
    """Why it has not fired, and when it will."""
    return schedule.explain()


@router.post("/schedules/{flow}/{key}/pause")
def schedule_pause(schedule: Schedule, actor: TheActor, why: Why | None = None) -> ScheduleRow:
    """Fire no more, until it is resumed."""
    schedule.pause((why and why.reason) or "", by=actor)
    return schedule.row()


@router.post("/schedules/{flow}/{key}/resume")
def schedule_resume(schedule: Schedule, actor: TheActor) -> ScheduleRow:
    """Fire again, from the first time after now."""
    schedule.resume(by=actor)
    return schedule.row()


@router.post("/schedules/{flow}/{key}/trigger", status_code=201)
def schedule_trigger(schedule: Schedule, request: Request, response: Response, caller: TheCaller) -> Started:
    """Start a run with its input now, whatever its rule, pause and overlap say."""
    run = schedule.trigger(by=caller.name)
    response.headers["Location"] = str(request.url_for("run_show", run_id=str(run.id)).path)
    return Started(id=run.id, flow=schedule.flow, status=run.status(), created=True)


@router.put("/schedules/{flow}/{key}/cron")
def schedule_set(schedule: Schedule, request: Request, response: Response, actor: TheActor, rule: Rule) -> ScheduleRow:
    """Another expression than the code's, until it is reset. Takes the `ETag` of what was read in `If-Match`."""
    tags.required(request, _tag(schedule.row()))
    schedule.set_cron(rule.cron, zone=rule.zone, by=actor)
    return schedule_show(schedule, request, response)


@router.delete("/schedules/{flow}/{key}/cron")
def schedule_reset(schedule: Schedule, actor: TheActor) -> ScheduleRow:
    """Go back to the rule of the code."""
    schedule.reset(by=actor)
    return schedule.row()


@router.post("/schedules/{flow}/{key}/backfill", status_code=202)
def schedule_backfill(schedule: Schedule, caller: TheCaller, span: Span) -> Backfill:
    """A run for every time of a span that has none, oldest first; keepers start them."""
    return schedule.backfill(
        span.since,
        span.until,
        max_parallel=span.max_parallel,
        reverse=span.reverse,
        dry_run=span.dry_run,
        by=caller.name,
    )


@router.post("/schedules/{flow}/{key}/backfill/{id}/cancel")
def schedule_backfill_cancel(schedule: Schedule, id: UUID, caller: TheCaller) -> Taken:
    """Start no more runs of a backfill."""
    return Taken(count=schedule.cancel_backfill(id, by=caller.name))


def _tag(row: ScheduleRow) -> str:
    """Of what `set` replaces."""
    return tags.of([row.expression, row.zone, str(row.overridden_at), row.overridden_by])
