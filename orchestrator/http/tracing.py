"""The trace of each request, for what is asked for in it."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.core.trace import of_headers
from orchestrator.observe.traces.incoming import came


class Traced:
    """ASGI middleware: signals, which keep no headers, know their trace too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = came.set(of_headers(Headers(scope=scope)))
        try:
            await self._app(scope, receive, send)
        finally:
            came.reset(token)
