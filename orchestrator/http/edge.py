"""What surrounds every request: its id, limits before anything is read, security headers, a line in the log."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.http import browsers, problems
from orchestrator.http.metering import Metering
from orchestrator.http.oidc.provider import CALLBACK
from orchestrator.http.problems import Refused
from orchestrator.observe.logs import log

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_CLOSE: Final[Mapping[str, str]] = {"Connection": "close"}
"""What is still coming is not read to its end."""
_LENGTH: Final = re.compile(r"\d{1,20}", re.ASCII)
SECURITY: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Headers of every answer."""
_RETURN: Final = 8192
_HSTS: Final = "max-age=31536000"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a request, in bytes, and how long its body may take."""

    body_s: float = 30.0
    body: int = 1024 * 1024
    url: int = 2048
    query: int = 1024
    headers: int = 16 * 1024

    def of(self, path: str) -> "Limits":
        """Those of a path: what a provider of identities sends a browser back with may be long."""
        return replace(self, url=_RETURN, query=_RETURN) if path.endswith(CALLBACK) else self


class Edge:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, limits: Limits, metering: Metering | None) -> None:
        self._app = app
        self._limits = limits
        self._metering = metering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._limits)
        request = Request(scope)
        try:
            exchange.check()
            await self._app(scope, exchange.receive, exchange.send)
        except Refused as refusal:
            await exchange.answer(problems.of_refusal(request, refusal))
        except Exception:
            log.exception("api.error", extra={"request_id": exchange.id})
            detail, fix = "Something went wrong here.", f"look for the request id {exchange.id} in the log of the API."
            await exchange.answer(problems.answer(request, 500, "internal", detail, fix))
        finally:
            exchange.log()
            if self._metering is not None:
                exchange.count(self._metering)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self._scope, self._receive, self._send, self._limits = scope, receive, send, limits
        self._headers = Headers(scope=scope)
        given = self._headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = self.id
        self._began = monotonic()
        self._read, self._whole = 0, False
        self._status, self._took_s = 0, 0.0

    def check(self) -> None:
        """
        Raises:
            Refused: it is too large, as far as that can be told before it is read.
        """
        limits = self._limits.of(self._scope["path"])
        path, query = self._scope.get("raw_path", b""), self._scope.get("query_string", b"")
        if b"%00" in path + query:
            raise Refused(400, "The URL has a NUL character.", "value", "leave it out.")
        if len(path) + len(query) > limits.url or len(query) > limits.query:
            fix = f"keep the URL below {limits.url} and its query below {limits.query} characters."
            raise Refused(413, "The URL is too long.", fix=fix)
        if sum(len(name) + len(value) for name, value in self._scope["headers"]) > limits.headers:
            raise Refused(413, "The headers are too large.", fix=f"keep them below {limits.headers} bytes.")
        if self._headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "The body is compressed.", fix="send it as it is.")
        if _LENGTH.fullmatch(announced := self._headers.get("content-length", "")):
            self._count(int(announced), so_far=0)

    async def receive(self) -> Message:
        """Counts what comes, whatever was announced, and does not wait for it for ever."""
        if self._whole:
            return await self._receive()  # which waits for the end of the connection
        with anyio.move_on_after(self._began + self._limits.body_s - monotonic()) as scope:
            message = await self._receive()
        if scope.cancelled_caught:
            detail = f"The body did not come within {self._limits.body_s:g} s."
            raise Refused(408, detail, fix="send it faster.", headers=_CLOSE)
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._count(size, so_far=self._read)
            self._read += size
            self._whole = not message.get("more_body", False)
        return message

    def _count(self, size: int, *, so_far: int) -> None:
        if so_far + size > self._limits.body:
            fix = f"keep it below {self._limits.body} bytes."
            raise Refused(413, "The body is too large.", fix=fix, headers=_CLOSE)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._took_s = message["status"], monotonic() - self._began
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
            for name, value in self._scope.get("answer_headers", {}).items():
                headers.setdefault(name, value)
            if browsers.origin_of(Request(self._scope)).startswith("https://"):
                headers.setdefault("Strict-Transport-Security", _HSTS)
            headers["X-Request-Id"] = self.id
        await self._send(message)

    async def answer(self, response: Response) -> None:
        """In place of one that has not begun."""
        if not self._status:
            await response(self._scope, self._receive, self.send)

    def count(self, metering: Metering) -> None:
        """One that went away before its answer is none."""
        if self._status:
            route: str | None = getattr(self._scope.get("route"), "name", None)
            waits = b"wait=" in self._scope.get("query_string", b"")
            metering.request(route, self._scope["method"], self._status, self._took_s, waits=waits)

    def log(self) -> None:
        facts: dict[str, Any] = {
            "request_id": self.id,
            "method": self._scope["method"],
            "path": self._scope["path"][:200],
            "status": self._status,
            "ms": round(1000 * (monotonic() - self._began), 1),
        }
        if (caller := self._scope.get("caller")) is not None:
            facts["caller"], facts["key_id"] = caller, self._scope.get("key_id")
        log.info("api.request", extra=facts)
