"""Webhooks: what publishers call, and what came by them."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import anyio
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from orchestrator.client.groups.webhooks import Replayed
from orchestrator.engine.webhooks import receive as engine
from orchestrator.engine.webhooks.arrival import Received
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.errors import DeliveryRefused
from orchestrator.http.caller import TheClient, address_of
from orchestrator.http.metering import delivered
from orchestrator.http.models import Delivered
from orchestrator.http.paging import RUN, Cursor, Limit, Page, page, place
from orchestrator.http.parameters import span
from orchestrator.http.problems import Refused
from orchestrator.http.routes import PROBLEMS
from orchestrator.http.routes import router as make
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import DeliveryCount, DeliveryRow, WebhookRow, WholeDelivery
from orchestrator.settings import Settings
from orchestrator.webhooks.handshakes import Answer
from orchestrator.webhooks.handshakes import challenge as challenge_of
from orchestrator.webhooks.request import Request as Delivery

READ_S: Final = 20.0
"""How long a publisher may take to send its body."""

# Their bodies and queries are the publishers', and they prove who they are by what they sign.
public = APIRouter(tags=["webhooks"], responses=PROBLEMS, generate_unique_id_function=lambda route: route.name)
router = make("webhooks")

Slug = Annotated[str, Path(min_length=1, max_length=100, description="A webhook.")]
TheDelivery = Annotated[
    str, Path(alias="delivery", max_length=36, description="A delivery's id, or its last characters, at least four.")
]
OfSlug = Annotated[str | None, Query(max_length=100, description="Only this webhook.")]
Since = Annotated[str, Query(max_length=40, description="What came in this time, such as 1h.")]
_BYTES: Final[Mapping[str, Any]] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_BODY: Final[Mapping[str, Any]] = {
    "requestBody": {
        "content": _BYTES,
        "description": "As signed; with the content type of the publisher, whatever it is.",
    }
}


@public.post(
    "/webhook/{slug}",
    status_code=202,
    response_model=Delivered,
    responses={200: {"model": Delivered, "description": "Known already, or a handshake"}},
    openapi_extra=dict(_BODY),
)
async def webhook_receive(slug: Slug, request: Request, client: TheClient) -> Response:
    """Take a delivery: 202, its run was started or its signal delivered; 200, it is known, with the id of its first
    run."""
    with delivered(request) as counted:
        delivery = await _delivery(request)
        received = await run_in_threadpool(client.call, engine.receive, _keeper(request), slug, delivery)
        if counted is not None:
            counted.taken(received, len(delivery.body))
    if received.dispatches:
        await run_in_threadpool(client.publish, received.dispatches)
    return _answered(_accepted(received))


@public.get("/webhook/{slug}", response_class=Response)
async def webhook_challenge(slug: Slug, request: Request, client: TheClient) -> Response:
    """Answer what a publisher asks of the URL before it sends anything."""
    _, door = await run_in_threadpool(client.call, engine.find, _keeper(request), slug)
    answer = challenge_of(door.trigger.scheme, request.query_params)
    if answer is None:
        raise Refused(
            405, f"Webhook {slug} asks for deliveries by POST.", fix="send it by POST.", headers={"Allow": "POST"}
        )
    return _as_it_is(answer)


@router.get("/webhooks")
def webhook_ls(client: TheClient, since: Since = "24h") -> Page[WebhookRow]:
    """Every webhook, with how much came lately."""
    return Page(items=client.webhooks.listed(span("since", since)))


@router.get("/webhooks/recent")
def webhook_recent(
    request: Request,
    response: Response,
    client: TheClient,
    slug: OfSlug = None,
    outcome: Annotated[str | None, Query(max_length=20, description="started, seen, signalled, refused …")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeliveryRow]:
    """What came, accepted or not, newest first."""
    before = place(request, cursor, RUN)
    rows = client.call(reads.webhooks.recent, slug, outcome, before, limit + 1)
    return page(request, response, rows, limit, lambda row: str(row.id))


@router.get("/webhooks/stats")
def webhook_stats(client: TheClient, slug: OfSlug = None, since: Since = "24h") -> Page[DeliveryCount]:
    """How much came, by outcome and by the gate that refused it."""
    return Page(items=client.webhooks.counts(slug, span("since", since)))


@router.get("/webhooks/deliveries/{delivery}")
def webhook_show(client: TheClient, delivery: TheDelivery) -> WholeDelivery:
    """A delivery: gate by gate, why, and what it said, without secrets."""
    return client.webhooks.get(delivery)


@router.post("/webhooks/deliveries/{delivery}/replay")
def webhook_replay(client: TheClient, delivery: TheDelivery) -> Replayed:
    """Take a delivery that was refused through the gates again, as they are now, at the time that it came. The answer
    is what became of it: it may be refused again, and why."""
    return client.webhooks.replay(delivery)


# ---- what came -------------------------------------------------------------------------------------------------


async def _delivery(request: Request) -> Delivery:
    """The body as it came: what is counted and refused is seen to at the edge, chunk by chunk.

    Raises:
        Refused: it takes too long.
    """
    body = bytearray()
    with anyio.move_on_after(READ_S) as scope:
        async for chunk in request.stream():
            body += chunk
    if scope.cancelled_caught:
        raise Refused(408, f"The body did not come within {READ_S:g} s.", fix="send it faster.")
    settings: Settings = request.app.state.settings
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
    return Delivery.of(
        bytes(body), headers, url=_url(request, settings), method=request.method, address=address_of(request)
    )


def _url(request: Request, settings: Settings) -> str:
    """As the publisher has it: of the settings, never of the `Host` that it sends."""
    root = request.scope.get("root_path", "")
    path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    if settings.public_url is not None:
        origin = settings.public_url.rstrip("/")
        path = path.removeprefix(root) if origin.endswith(root) else path
    else:
        host, port = request.scope.get("server") or ("localhost", None)
        origin = f"{request.scope['scheme']}://{host}{f':{port}' if port else ''}"
    return f"{origin}{path}{f'?{query}' if query else ''}"


def _keeper(request: Request) -> Gatekeeper:
    found = request.app.state.gatekeeper
    assert isinstance(found, Gatekeeper)
    return found


# ---- what is answered ------------------------------------------------------------------------------------------


def _accepted(received: Received) -> Received:
    """
    Raises:
        Refused: by a gate, without a word on the reason: whoever sent it may be guessing.
        OrchestratorError: it does not fit.
    """
    error = received.error
    if isinstance(error, DeliveryRefused):
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        fix = "look at `orchestrator webhook recent --refused` for why."
        raise Refused(received.status, error.message, error.code, fix, headers=headers)
    return received.accepted()


def _answered(received: Received) -> Response:
    if received.answer is not None:
        return _as_it_is(received.answer)
    return JSONResponse(_told(received).model_dump(mode="json"), received.status)


def _told(received: Received) -> Delivered:
    return Delivered(id=received.id, outcome=received.outcome, run_id=received.run_id)


def _as_it_is(answer: Answer) -> Response:
    return Response(answer.body, 200, media_type=answer.content_type)
