"""Flows: what is registered, switching them, and starting runs of them."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Body, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from pydantic import JsonValue

from orchestrator.client.groups.flows import Deployed, OpenStep
from orchestrator.client.run_handle import RunHandle
from orchestrator.core import trace
from orchestrator.core.manifest import Manifest
from orchestrator.core.pictures import Picture, drawn
from orchestrator.core.states import FINAL_RUN
from orchestrator.engine.runs import shown
from orchestrator.errors import UsageError
from orchestrator.http import tags
from orchestrator.http.caller import TheActor, TheCaller, TheClient
from orchestrator.http.drawings import DRAWINGS, Language, drawing
from orchestrator.http.models import (
    Batch,
    BatchItem,
    BatchStarted,
    Deploy,
    GivenOutputs,
    Started,
    Switched,
    Unserved,
    Why,
)
from orchestrator.http.paging import KEY, NUMBER, Cursor, Limit, Page, page, place
from orchestrator.http.parameters import REPLAYED, AfterEvent, FlowName, IdempotencyKey, length
from orchestrator.http.routes import router as make
from orchestrator.http.waiting import Wait
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import EventRow, FlowRow, VersionRow

router = make("flows")

_SEEN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Started, "description": "The run that the key and input started before"}
}
Hash = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Of a manifest.")]
Tags = Annotated[list[str] | None, Query(alias="tag", max_length=50, description="Of the run; several times.")]
StartAfter = Annotated[str | None, Query(description="Begin later: 10m, or 2026-01-31T12:00:00Z.", max_length=40)]


@router.get("/flows")
def flow_ls(
    request: Request, response: Response, client: TheClient, limit: Limit = 50, cursor: Cursor = None
) -> Page[FlowRow]:
    """The registered flows, by name."""
    rows = client.call(reads.flows.every, place(request, cursor, KEY), limit + 1)
    return page(request, response, rows, limit, lambda row: row.name)


@router.get("/flows/{flow}")
def flow_show(flow: FlowName, client: TheClient) -> FlowRow:
    """A flow at its current version."""
    return client.flows.get(flow)


@router.get("/flows/{flow}/manifest", response_model=None, responses=tags.KNOWN)
def flow_manifest(flow: FlowName, request: Request, response: Response, client: TheClient) -> Any:
    """The manifest of its current version."""
    row = client.flows.get(flow)
    return _manifest(request, response, client, row.manifest_hash)


@router.get("/manifests/{hash}", response_model=None, responses=tags.KNOWN)
def manifest_show(hash: Hash, request: Request, response: Response, client: TheClient) -> Any:
    """A manifest by its hash: it never changes."""
    return _manifest(request, response, client, hash)


@router.get("/flows/{flow}/graph", response_class=PlainTextResponse, responses=DRAWINGS)
def flow_graph(flow: FlowName, client: TheClient, language: Language = "mermaid") -> Response:
    """Its current version as a drawing: `mermaid`, `dot` or `tree`, a text; or `json`, for whoever draws it."""
    row = client.flows.get(flow)
    manifest = client.flows.manifest(row.manifest_hash)
    return drawing(drawn(Picture.of(manifest, f"{row.name}@{row.version}"), language), language)


@router.get("/flows/{flow}/versions")
def flow_versions(
    request: Request,
    response: Response,
    flow: FlowName,
    client: TheClient,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[VersionRow]:
    """Its versions, in the order in which they were first registered."""
    rows = client.call(reads.flows.versions, flow, place(request, cursor, KEY), limit + 1)
    return page(request, response, rows, limit, lambda row: row.hash)


@router.get("/flows/{flow}/open-steps")
def flow_open_steps(flow: FlowName, client: TheClient) -> Page[OpenStep]:
    """Which steps open runs have yet to end, by version: what a new version must be able to go on with."""
    client.flows.get(flow)
    return Page(items=client.flows.open_steps(flow))


@router.get("/flows/{flow}/given-outputs")
def flow_given_outputs(
    flow: FlowName,
    client: TheClient,
    version: Annotated[str, Query(max_length=64, description="The hash of a version.")],
    step_key: Annotated[str, Query(max_length=400, description="A step of it that open runs have yet to end.")],
    source: Annotated[str, Query(max_length=400, description="The step whose outputs it reads.")],
    limit: Limit = 100,
) -> GivenOutputs:
    """What a step gave in open runs: what the code that reads it must be able to take. Outputs with secrets are not
    shown; they are among those that are left."""
    values, left = client.call(shown.given_outputs, reads.flows.Reader(flow, version, step_key, source), limit)
    return GivenOutputs(values=values, left=left)


@router.get("/flows/{flow}/events")
def flow_events(
    request: Request,
    response: Response,
    flow: FlowName,
    client: TheClient,
    after: AfterEvent = 0,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[EventRow]:
    """What happened to the flow itself: starts that were refused, and who switched it; in order."""
    rows = client.flow_events(flow, after=max(place(request, cursor, NUMBER) or 0, after), limit=limit + 1)
    return page(request, response, rows, limit, lambda row: row.id)


@router.get("/flows/{flow}/unserved")
def flow_unserved(flow: FlowName, client: TheClient) -> Unserved:
    """Whether no live worker has a step of it, so that its runs wait."""
    return Unserved(unserved=client.is_unserved(flow))


@router.post("/flows/{flow}/trigger", status_code=201, responses=_SEEN)
async def run_start(
    flow: FlowName,
    request: Request,
    response: Response,
    client: TheClient,
    key: IdempotencyKey,
    wait: Wait,
    input: Annotated[Mapping[str, JsonValue] | None, Body(description="The input of the flow.")] = None,
    tag: Tags = None,
    start_after: StartAfter = None,
) -> Started:
    """Start a run. It is accepted and durable when this answers: 201, or 200 if a run was started with the same key
    and input before. With `wait` the answer comes when the run has ended, or after that time."""
    begins = length("start_after", start_after)

    def start() -> RunHandle[Any]:
        headers = request.headers.items()
        return client.start(flow, input, idempotency_key=key, tags=tag or (), start_after=begins, headers=headers)

    handle = await run_in_threadpool(start)
    response.headers["Location"] = str(request.url_for("run_show", run_id=str(handle.id)).path)
    if not handle.created:
        response.status_code = 200
        response.headers[REPLAYED] = "true"
    if handle.accepted_as is not None and not wait:
        return Started(id=handle.id, flow=flow, status=handle.accepted_as, created=True)
    if wait:
        await wait.until_ended(handle)
    return await run_in_threadpool(_started, flow, handle, bool(wait))


@router.post("/flows/{flow}/trigger/batch", status_code=201)
def run_start_many(flow: FlowName, request: Request, client: TheClient, batch: Batch) -> BatchStarted:
    """Start many runs in one commit."""
    handles = client.start_many(
        flow,
        batch.inputs,
        batch.idempotency_keys,
        batch.tags,
        start_after=length("start_after", batch.start_after),
        headers={**trace.of_headers(request.headers), **dict(batch.headers or {})} or None,
    )
    return BatchStarted(items=[BatchItem(id=one.id, created=one.created) for one in handles])


@router.post("/flows/{flow}/enable")
def flow_enable(flow: FlowName, client: TheClient, actor: TheActor) -> Switched:
    """Accept triggers of the flow again."""
    client.flows.enable(flow, by=actor)
    return Switched(flow=flow, enabled=True)


@router.post("/flows/{flow}/disable")
def flow_disable(flow: FlowName, client: TheClient, actor: TheActor, why: Why | None = None) -> Switched:
    """Refuse every trigger of the flow; runs in flight go on."""
    client.flows.disable(flow, reason=why.reason if why else None, by=actor)
    return Switched(flow=flow, enabled=False)


@router.post("/flows/{flow}/deploy")
def flow_deploy(flow: FlowName, client: TheClient, caller: TheCaller, what: Deploy) -> Deployed:
    """Make a version the current one, even one that was superseded: one that is registered, by its number, or one that
    the code has, by its manifest."""
    if what.manifest is None:
        assert what.version is not None
        return client.flows.deploy_version(flow, what.version, by=caller.name)
    manifest = Manifest.from_json(json.dumps(what.manifest))
    if manifest.name != flow:
        raise UsageError(f"The manifest is of flow {manifest.name}, not {flow}. Fix: send it to that flow.", flow=flow)
    return client.flows.deploy(manifest, by=caller.name)


@router.delete("/flows/{flow}", status_code=204)
def flow_delete(flow: FlowName, client: TheClient, caller: TheCaller) -> None:
    """Remove a flow that the code does not have any more; its runs that ended can be read as before."""
    client.delete_flow(flow, by=caller.name)


def _started(flow: str, handle: RunHandle[Any], waited: bool) -> Started:
    status = handle.status()
    started = Started(id=handle.id, flow=flow, status=status, created=handle.created)
    if not waited or status not in FINAL_RUN:
        return started
    row = handle.row()
    output = handle.client.call(shown.result, handle.id) if status == "succeeded" else None
    return started.model_copy(update={"output": output, "error": row.error})


def _manifest(request: Request, response: Response, client: Any, hash: str) -> Any:
    if (same := tags.known(request, response, f'"{hash}"')) is not None:
        return same
    manifest: Manifest = client.flows.manifest(hash)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return manifest.model_dump(mode="json", exclude_defaults=True)
