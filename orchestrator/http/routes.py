"""What every route has: a gate before it, strict JSON bodies, and no parameter that it does not know."""

from collections import Counter
from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any, Final, get_args, get_origin

from fastapi import APIRouter, Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from orchestrator.http import auditing
from orchestrator.http.bodies import JsonRequest
from orchestrator.http.parameters import KEY, REPLAYED, IdempotencyKey, key_of, read_key
from orchestrator.http.policy import SECRET_ANSWERS
from orchestrator.http.problems import MEDIA_TYPE, Problem, Refused, repeated_parameter, unknown_parameter
from orchestrator.http.replays import answered

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_PROBLEM: Final[dict[str, Any]] = {"model": Problem, "content": {MEDIA_TYPE: {}}}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {**_PROBLEM, "description": "Malformed"},
    "default": {**_PROBLEM, "description": "An error"},
}
_KEYED: Final = Depends(key_of)


class Route(APIRoute):
    """A route that lets in who may, refuses query parameters it does not know, and reads bodies strictly. One that
    does something answers an `Idempotency-Key` again that it has answered; but for those that see to keys themselves
    (starts, operations, signals: the engine knows theirs)."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.replays = "POST" in (options.get("methods") or ()) and _is_keyed_here(endpoint)
        if self.replays:
            own = [one for one in options.get("dependencies") or () if one is not _KEYED]  # made anew when included
            options["dependencies"] = [*own, _KEYED]
            if options.get("status_code") not in (None, 200, 204):
                again = {"model": signature(endpoint).return_annotation, "description": "The first answer again"}
                options["responses"] = {200: again, **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        several = _query_names(self.dependant)
        known = sorted(several)
        has_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            await request.app.state.gate.admit(request, self.name)  # before anything is read of it
            for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
                if name not in several:
                    raise unknown_parameter(name, known)
                if count > 1 and not several[name]:
                    raise repeated_parameter(name)
            if len(request.headers.getlist(KEY)) > 1:
                raise Refused(400, f"There are several `{KEY}`.", fix="send one.")
            if not has_body and _brings_a_body(request):
                raise Refused(400, "This takes no body.", fix="leave it out.")
            asked = JsonRequest(request.scope, request.receive)
            body = await asked.json() if has_body else None  # before the framework, which would read it less strictly
            key = request.headers.get(KEY) if self.replays else None
            if key is None:
                answer = await handle(asked)
            else:
                answer = await answered(asked, self.name, read_key(key), body, lambda: handle(asked))
            if auditing.is_kept(self.name, request.method) and REPLAYED not in answer.headers:
                await auditing.keep(request, self.name, answer, body)
            return answer

        return strict


def router(tag: str) -> APIRouter:
    """Of one resource. `operationId` is the name of the function: the words of the command line."""
    return APIRouter(
        tags=[tag],
        route_class=Route,
        responses=PROBLEMS,
        strict_content_type=False,  # what has no content type is JSON
        generate_unique_id_function=lambda route: route.name,
    )


def _is_keyed_here(endpoint: Callable[..., Any]) -> bool:
    own = any(one.annotation == IdempotencyKey for one in signature(endpoint).parameters.values())
    return not own and endpoint.__name__ not in SECRET_ANSWERS


def _brings_a_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _query_names(dependant: Dependant) -> dict[str, bool]:
    """The names of parameters, and whether one may be given several times."""
    names = {field.alias: _is_list(field.field_info.annotation) for field in dependant.query_params}
    for one in dependant.dependencies:
        names |= _query_names(one)
    return names


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(map(_is_list, get_args(annotation)))
