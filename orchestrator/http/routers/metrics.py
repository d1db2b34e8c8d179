"""What Prometheus scrapes: at the root, with a key unless the settings say otherwise."""

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse

from orchestrator.http.routes import router as make

router = make("metrics")


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics_show(request: Request) -> Response:
    """What this process counted, and how the ledger stands, in the form of Prometheus; as OpenMetrics where `Accept`
    asks for that."""
    render = request.app.state.instruments.render
    body, content_type = await run_in_threadpool(render, request.headers.get("accept"))
    return Response(body, headers={"Content-Type": content_type})
