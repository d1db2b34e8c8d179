"""Entity tags: whoever has it already is told so, and whoever changes what somebody else changed is refused."""

import hashlib
from typing import Any, Final

import pydantic_core
from fastapi import Request, Response

from orchestrator.http.problems import Refused

KNOWN: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "The one of `If-None-Match`, still"}}


def of(shown: Any) -> str:
    """The tag of what is shown: another one as soon as anything in it is another."""
    return f'W/"{hashlib.sha256(pydantic_core.to_json(shown)).hexdigest()[:24]}"'


def known(request: Request, response: Response, tag: str) -> Response | None:
    """The answer for whoever has this already (304); else None, and the answer that is made has the tag."""
    if tag in _listed(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return None


def required(request: Request, tag: str) -> None:
    """For what replaces something.

    Raises:
        Refused: there is no `If-Match` (400), or it is of what was there before (412).
    """
    given = _listed(request.headers.get("if-match", ""))
    if not given:
        raise Refused(400, "There is no `If-Match`.", "if_match_missing", "send the `ETag` of what you read.")
    if tag not in given and "*" not in given:
        raise Refused(412, "Somebody changed it since you read it.")


def _listed(header: str) -> list[str]:
    return [one.strip() for one in header.split(",") if one.strip()]
