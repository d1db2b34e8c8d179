"""Errors as HTTP has them: problem details (RFC 9457), and one table from our errors to statuses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pydantic_core
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import Match

from orchestrator import errors
from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import OrchestratorError
from orchestrator.observe.logs import log

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2

STATUSES: Final[Mapping[type[OrchestratorError], int]] = {
    errors.OrchestratorError: 500,
    errors.UsageError: 400,
    errors.InputInvalid: 422,
    errors.SignalUnreadable: 400,
    errors.SignalTooLarge: 413,
    errors.ManifestInvalid: 422,
    errors.ScheduleInvalid: 422,
    errors.OutputInvalid: 422,
    errors.ValueRefused: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.SignalTooLate: 410,
    errors.IdempotencyConflict: 422,
    errors.ManifestUnreadable: 409,
    errors.LeaseLost: 409,
    errors.Unavailable: 503,
    errors.TookTooLong: 503,
    errors.RunFailed: 409,
    errors.RunCancelled: 409,
    errors.WaitTimeout: 409,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
}
"""By the nearest class of the error's."""

_PLAIN: Final[Mapping[int, tuple[str, str]]] = {
    400: ("malformed", "correct the request."),
    401: ("unauthenticated", "send `Authorization: Bearer KEY`."),
    403: ("forbidden", "use a key whose role allows it."),
    404: ("not_found", "see /api/openapi.json for what there is."),
    405: ("method_not_allowed", "see /api/openapi.json for what there is."),
    408: ("too_slow", "send it faster."),
    412: ("precondition_failed", "read it again, and send its new `ETag` in `If-Match`."),
    413: ("too_large", "send less."),
    415: ("unsupported_media_type", "send JSON with `Content-Type: application/json`."),
    429: ("rate_limited", "ask again after `Retry-After`."),
    502: ("bad_gateway", "ask whoever runs what is behind it."),
    503: ("unavailable", "ask again after `Retry-After`."),
}


_MOST: Final = 50
"""Of what is wrong with one request, so many things are said."""


class Detail(BaseModel):
    """One thing that is wrong, and where: `pointer` is a JSON Pointer into the body, or `?name`, `{name}` for a
    parameter."""

    model_config = ConfigDict(frozen=True)

    pointer: str
    detail: str


class Problem(BaseModel):
    """An error. `code` is stable, `fix` says what to do about it."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    fix: str | None = None
    problems: Sequence[Detail] = ()
    facts: Mapping[str, Any] = {}
    """What is known of it: ids, keys, names, as they are attributes of the error in Python."""
    request_id: str | None = None


class Refused(Exception):
    """What only HTTP knows: a malformed request, a stale tag, a rate."""

    def __init__(self, status: int, detail: str, code: str = "", fix: str = "", **more: Any) -> None:
        super().__init__(detail)
        plain_code, plain_fix = _PLAIN[status]
        self.status, self.detail = status, detail
        self.code, self.fix = code or plain_code, fix or plain_fix
        self.problems: Sequence[Detail] = more.get("problems", ())
        self.headers: Mapping[str, str] = more.get("headers", {})


def status_of(error: OrchestratorError) -> int:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def answer(request: Request, status: int, code: str, detail: str, fix: str | None, **more: Any) -> JSONResponse:
    """A problem, with its media type and, where asking again may help, when."""
    headers: dict[str, str] = dict(more.pop("headers", {}))
    if status == 503:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    problem = Problem(
        type=f"{request.scope.get('root_path', '')}/api/problems/{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        fix=fix,
        request_id=request.scope.get("request_id"),
        **more,
    )
    return JSONResponse(problem.model_dump(mode="json"), status, headers, media_type=MEDIA_TYPE)


def of_error(request: Request, error: Exception) -> JSONResponse:
    """One of ours: its message is a sentence, and `Fix:` with another one."""
    assert isinstance(error, OrchestratorError)
    status = status_of(error)
    detail, _, fix = error.message.partition(" Fix: ")
    if status == 500:
        log.error("api.failed", extra={"code": error.code, "error": error.message[:500]})
    pointer = getattr(error, "path", None)
    problems = [] if pointer is None else [Detail(pointer=_pointer(pointer), detail=detail)]
    facts = pydantic_core.to_jsonable_python(dict(error.facts), fallback=str)
    return answer(request, status, error.code, detail, fix or None, problems=problems, facts=facts)


def of_refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return answer(
        request, error.status, error.code, error.detail, error.fix, problems=error.problems, headers=error.headers
    )


def of_http(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code, fix = _PLAIN.get(error.status_code, ("error", ""))
    detail = f"{request.method} {request.url.path}: {str(error.detail).lower()}."
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))  # the framework names those of one route, of several
    return answer(request, error.status_code, code, detail, fix or None, headers=headers)


def _methods(request: Request) -> list[str]:
    """Those that this path takes."""
    asked = [{**request.scope, "method": method} for method in ("DELETE", "GET", "PATCH", "POST", "PUT")]
    routes = request.app.routes
    return [one["method"] for one in asked if any(route.matches(one)[0] is Match.FULL for route in routes)]


def of_validation(request: Request, error: Exception) -> JSONResponse:
    """Parameters and bodies that do not fit: 400 what cannot be read, 422 a body that is read and does not fit."""
    assert isinstance(error, RequestValidationError)
    found = [_detail(one) for one in error.errors()[:_MOST]]
    in_body = all(one["loc"][:1] == ("body",) for one in error.errors())
    detail = "; ".join(f"{one.pointer}: {one.detail}" for one in found[:5])
    status, code = (422, "body_invalid") if in_body else (400, "parameter_invalid")
    return answer(request, status, code, f"{detail}.", "correct what `problems` names.", problems=found)


def _detail(one: Mapping[str, Any]) -> Detail:
    where, *path = one["loc"]
    message = str(one["msg"]).removeprefix("Value error, ").rstrip(".")
    if where == "body":
        return Detail(pointer=pointer_of(path), detail=message)
    name = path[0] if path else ""
    return Detail(pointer=f"{{{name}}}" if where == "path" else f"?{name}", detail=message)


def _pointer(path: str) -> str:
    """A path of ours, `orders[3].note`, as a JSON Pointer."""
    parts = path.replace("]", "").replace("[", ".").split(".")
    return pointer_of([part for part in parts if part])


def pointer_of(path: Iterable[object]) -> str:
    """A JSON Pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def repeated_parameter(name: str) -> Refused:
    return Refused(
        400,
        f"The parameter {name!r} is given twice, and has one value.",
        code="repeated_parameter",
        fix="give it once.",
        problems=[Detail(pointer=f"?{name}", detail="repeated")],
    )


def unknown_parameter(name: str, known: Sequence[str]) -> Refused:
    return Refused(
        400,
        f"There is no parameter {name!r}.",
        code="unknown_parameter",
        fix=did_you_mean(name, known) or "leave it out.",
        problems=[Detail(pointer=f"?{name}", detail="unknown")],
    )
