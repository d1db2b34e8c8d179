"""What every route has: a gate before it, strict JSON bodies, and no parameter that it does not know."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from orchestrator.http import auditing
from orchestrator.http.bodies import JsonRequest
from orchestrator.http.problems import MEDIA_TYPE, Problem, unknown_parameter

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_PROBLEM: Final[dict[str, Any]] = {"model": Problem, "content": {MEDIA_TYPE: {}}}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {**_PROBLEM, "description": "Malformed"},
    "default": {**_PROBLEM, "description": "An error"},
}


class Route(APIRoute):
    """A route that lets in who may, refuses query parameters it does not know, and reads bodies strictly."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        known = sorted(_query_names(self.dependant))
        has_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            await request.app.state.gate.admit(request, self.name)  # before anything is read of it
            for name in request.query_params:
                if name not in known:
                    raise unknown_parameter(name, known)
            asked = JsonRequest(request.scope, request.receive)
            if has_body:
                await asked.json()  # before the framework, which would read it less strictly
            answer = await handle(asked)
            if auditing.is_kept(self.name, request.method):
                await auditing.keep(request, self.name, answer, await asked.json() if has_body else None)
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


def _query_names(dependant: Dependant) -> set[str]:
    names = {field.alias for field in dependant.query_params}
    return names.union(*(_query_names(one) for one in dependant.dependencies))
