"""What happens, as it happens: server-sent events."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from orchestrator.http.auth import Gate
from orchestrator.http.caller import TheCaller, TheClient, find_run
from orchestrator.http.hub import Hub, Lost
from orchestrator.http.problems import Refused
from orchestrator.http.readers import Sent, Wanted
from orchestrator.http.routes import router as make
from orchestrator.http.stopping import Stopping, TheStopping
from orchestrator.observe.logs import log

router = make("events")

RETRY_MS: Final = 2_000
HEARTBEAT_S: Final = 15
STALLED_S: Final = 20.0
"""A reader that takes nothing for so long is cut off; it comes back with its place."""
TICK_S: Final = 1.0
"""How often a stream looks whether it may go on."""
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Events, for ever", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


async def hub_of(request: Request) -> Hub:
    """The one of this process."""
    found = request.app.state.hub
    assert isinstance(found, Hub)
    return found


class _Stream(EventSourceResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A reader that stalls is no error of ours."""
        with suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)
            return
        log.info("events.stalled", extra={"request_id": scope.get("request_id")})


@router.get("/events/stream", response_class=_Stream, responses=_STREAM)
async def event_stream(
    request: Request,
    client: TheClient,
    caller: TheCaller,
    hub: Annotated[Hub, Depends(hub_of)],
    stopping: TheStopping,
    run: Annotated[str | None, Query(max_length=36, description="Only of this run.")] = None,
    flow: Annotated[list[str] | None, Query(max_length=50, description="Only of runs of these flows.")] = None,
    type: Annotated[list[str] | None, Query(max_length=50, description="`run.failed`, or all: `run.*`.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=100, description="Go on after this `id`.")] = None,
) -> Response:
    """What happens in all runs, as it is committed, by whatever process. Each event comes at least once; `id` in its
    data tells doubles. `event: resync` says that the place was lost: read again what you show."""
    if stopping.ending:
        raise Refused(503, "This process is stopping.", fix="connect again: another one answers.")
    run_id = None if run is None else (await run_in_threadpool(find_run, client, caller, run)).id
    wanted = Wanted(run_id, frozenset(flow or ()), frozenset(type or ()))
    return _Stream(
        _frames(request, hub, stopping, wanted, last_event_id),
        ping=HEARTBEAT_S,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        send_timeout=STALLED_S,
        shutdown_grace_period=5 * TICK_S,
    )


async def _frames(
    request: Request, hub: Hub, stopping: Stopping, wanted: Wanted, cursor: str | None
) -> AsyncIterator[bytes]:
    gate = request.app.state.gate
    assert isinstance(gate, Gate)
    yield ServerSentEvent(comment="hello", retry=RETRY_MS).encode()
    async with aclosing(hub.read(wanted, cursor, TICK_S)) as reading:
        async for found in reading:
            if stopping.ending:
                yield ServerSentEvent(comment="stopping: connect again").encode()
                return
            if not await gate.still_admits(request, "event_stream"):
                yield ServerSentEvent(comment="the key ended").encode()
                return
            if frames := _encoded(found):
                yield frames


def _encoded(found: Sequence[Sent] | Lost | str) -> bytes:
    if isinstance(found, str):
        return ServerSentEvent("{}", event="open", id=found).encode()
    if isinstance(found, Lost):
        data = '{"detail":"Events were left out here: read again what you show."}'
        return ServerSentEvent(data, event="resync", id=found.cursor).encode()
    return b"".join(one.frame for one in found)
