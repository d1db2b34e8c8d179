"""Runs: lists, one run, and what is done to it as a whole."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse

from orchestrator.client.client import Client
from orchestrator.client.runtree import RunTree
from orchestrator.core.facts import Explanation
from orchestrator.core.rerun import Rerun
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.engine.runs import reveal, shown
from orchestrator.engine.runs.explain import explain_many
from orchestrator.http import tags
from orchestrator.http.answers import check_answers
from orchestrator.http.caller import TheActor, TheCaller, TheClient
from orchestrator.http.drawings import DRAWINGS, Language, drawing
from orchestrator.http.lines import Lines
from orchestrator.http.models import Again, Control, Retry, Standing, Started, Value, Why
from orchestrator.http.paging import NUMBER, AfterRun, Cursor, Limit, Page, after_id, page, place
from orchestrator.http.parameters import AfterEvent, NamedRun, TheRun, TheWanted
from orchestrator.http.problems import Refused
from orchestrator.http.routes import router as make
from orchestrator.http.waiting import Wait
from orchestrator.ledger.listing import MANY
from orchestrator.ledger.reads.rows import ChildRow, EventRow, RunRow

router = make("runs")

Explain = Annotated[
    bool, Query(description="What each of the runs, at most 50, waits for, and the command that helps: `explained`.")
]
_MOST_EXPLAINED: Final = 50


class Runs(Page[RunRow]):
    """`explained`: with `explain=1`, by the id of a run."""

    explained: Mapping[UUID, Explanation] | None = None


_FORESEEN: Final[dict[int | str, dict[str, Any]]] = {200: {"model": Rerun, "description": "A dry run"}}
_OPEN: Final = tuple(status for status in RunStatus if status not in FINAL_RUN)


@router.get("/runs")
def run_ls(
    request: Request,
    response: Response,
    client: TheClient,
    wanted: TheWanted,
    fields: Annotated[Literal["body"] | None, Query(description="`body`: the inputs too.")] = None,
    count: Annotated[bool, Query(description="How many there are, as far as they are counted.")] = False,
    explain: Explain = False,
    after: AfterRun = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Runs:
    """Runs, newest first. Without `fields=body` the inputs are left out: `body` is null."""
    last = after_id(request, cursor, after)
    rows = client.runs(**wanted, limit=limit + 1, after=last, inputs=fields == "body")
    found = _runs(client, page(request, response, rows, limit, lambda row: str(row.id)), explain)
    if not count:
        return found
    number = client.count_runs(**wanted)
    return found.model_copy(update={"count": number, "capped": number == MANY})


@router.get("/runs/active")
def run_active(
    request: Request,
    response: Response,
    client: TheClient,
    explain: Explain = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Runs:
    """Runs that have not ended, newest first."""
    last = after_id(request, cursor)
    rows = client.runs(status=_OPEN, limit=limit + 1, after=last, inputs=False)
    return _runs(client, page(request, response, rows, limit, lambda row: str(row.id)), explain)


def _runs(client: Client, found: Page[RunRow], explain: bool) -> Runs:
    if not explain:
        return Runs(**dict(found))
    if len(found.items) > _MOST_EXPLAINED:
        raise Refused(
            400, f"{len(found.items)} runs are a lot to explain.", fix=f"ask for `limit={_MOST_EXPLAINED}` or fewer."
        )
    explained = client.call(explain_many, [row.id for row in found.items], client.settings.worker_ttl)
    return Runs(**dict(found), explained=explained)


@router.get("/runs/export", response_class=Lines, response_model=None)
def run_export(client: TheClient, wanted: TheWanted) -> Lines:
    """Runs, newest first, each followed by its steps, attempts, outputs and events: a JSON object per line, with its
    kind as `record` and its `run`. Secrets are `***`. It is whole if the answer is."""
    return Lines(client.all_records(**wanted))


@router.get("/runs/{run_id}", responses=tags.KNOWN)
async def run_show(
    run: NamedRun,
    request: Request,
    response: Response,
    wait: Wait,
    after: Annotated[
        str | None, Query(max_length=100, description="An `ETag` of it: `wait` for any change since.")
    ] = None,
) -> RunRow:
    """One run. With `wait` the answer comes when it has ended, or when it is not as it was `after` any more, or after
    the time: always with its state then."""

    async def look() -> tuple[RunRow, str]:
        row, last = await run_in_threadpool(run.client.call, shown.row_with_last_event, run.id)
        return row, tags.of([row, last])

    if wait and after is None:
        await wait.until_ended(run)
    row, tag = await (wait.until_changed(run.id, look, after) if wait and after is not None else look())
    if (same := tags.known(request, response, tag)) is not None:
        return same  # type: ignore[return-value]
    return row


@router.get("/runs/{run_id}/events")
def run_events(
    request: Request,
    response: Response,
    run: TheRun,
    after: AfterEvent = 0,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[EventRow]:
    """Its history, in order."""
    rows = run.events(after=max(place(request, cursor, NUMBER) or 0, after), limit=limit + 1)
    return page(request, response, rows, limit, lambda row: row.id)


@router.get("/runs/{run_id}/control")
def run_control(run: TheRun) -> Control:
    """What was asked of it: to stop, and until when it may take."""
    row = run.row()
    return Control(
        cancel_requested_at=row.cancel_requested_at,
        cancel_reason=row.cancel_reason,
        deadline=row.deadline,
        epoch=row.epoch,
        start_at=row.start_at,
    )


@router.get("/runs/{run_id}/explain")
def run_explain(
    run: TheRun, step: Annotated[str | None, Query(max_length=400, description="One step of it.")] = None
) -> Explanation:
    """In one sentence what the run or step waits for, since when, and what to do."""
    return run.explain(step)


@router.get("/runs/{run_id}/output")
def run_result(run: TheRun) -> Value:
    """What it returned."""
    run.must_have_succeeded()
    return Value.of(run.client.call(shown.seen_result, run.id))


@router.post("/runs/{run_id}/output/reveal")
def run_reveal(run: TheRun, actor: TheActor, why: Why | None = None) -> Value:
    """What it returned, with its secrets. The audit has who asked, before they are told."""
    run.must_have_succeeded()
    return Value(value=run.client.call(reveal.result, run.id, actor, why.reason if why else None))


@router.get("/runs/{run_id}/graph", response_class=PlainTextResponse, responses=DRAWINGS)
def run_graph(run: TheRun, language: Language = "mermaid") -> Response:
    """The run as a drawing, each step with where it stands: `mermaid`, `dot` or `tree`, a text; or `json`, for whoever
    draws it."""
    return drawing(run.graph(language), language)


@router.get("/runs/{run_id}/children")
def run_children(
    request: Request,
    response: Response,
    run: TheRun,
    step: str | None = None,
    after: AfterRun = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ChildRow]:
    """The runs that it called, or that one step of it called, in the order of their starts."""
    rows = run.children(step, after=after_id(request, cursor, after), limit=limit + 1)
    return page(request, response, rows, limit, lambda row: str(row.id))


@router.get("/runs/{run_id}/tree")
def run_tree(run: TheRun) -> RunTree:
    """The run with the runs that its steps called, and theirs."""
    return run.tree()


@router.delete("/runs/{run_id}", status_code=204)
def run_delete(
    run: TheRun,
    caller: TheCaller,
    reason: Annotated[str | None, Query(max_length=2000, description="Why, for the audit.")] = None,
) -> None:
    """Remove a run that ended, with its inputs, outputs, history and idempotency key, for good."""
    run.delete(reason, by=caller.name)


@router.post("/runs/{run_id}/cancel", status_code=202)
def run_cancel(run: TheRun, caller: TheCaller, why: Why | None = None) -> Standing:
    """Ask it to stop: nothing of it starts any more, and what runs is told to stop."""
    return Standing(id=run.id, status=run.cancel((why and why.reason) or "", by=caller.name))


@router.post("/runs/{run_id}/retry", status_code=202)
def run_retry(run: TheRun, caller: TheCaller, how: Retry | None = None) -> Standing:
    """Run what failed again, and what was skipped because of it."""
    how = how or Retry()
    run.retry(by=caller.name, force=how.force, fresh=how.fresh)
    return Standing(id=run.id, status=run.status())


@router.post("/runs/{run_id}/rerun", status_code=201, responses=_FORESEEN)
def run_rerun(
    run: TheRun, request: Request, response: Response, caller: TheCaller, how: Again | None = None
) -> Started | Rerun:
    """A new run with the input of this one or another: whole on the current version, or from a step on, with what
    was before it kept. With another input, an admin alone keeps what somebody answered. `dry_run`: what would be kept,
    and what would run."""
    how = how or Again()
    if how.from_step is not None and how.input is not None and not how.dry_run:
        check_answers(caller, run, run.rerun_plan(how.from_step, input=how.input).kept)
    if how.dry_run:
        response.status_code = 200
        return run.rerun_plan(how.from_step, input=how.input, changes=how.changes)
    new = run.rerun(how.from_step, input=how.input, changes=how.changes, by=caller.name)
    response.headers["Location"] = str(request.url_for("run_show", run_id=str(new.id)).path)
    return Started(id=new.id, flow=new.row().flow, status=new.status(), created=True)
