"""JSON bodies, read strictly: what the ledger could not hold, or two readers would read differently, is refused."""

import json
from itertools import pairwise
from typing import Any, Final, NoReturn

from starlette.requests import Request

from orchestrator.core.values import refusal, suspect
from orchestrator.http.problems import Detail, Refused, pointer_of

JSON: Final = "application/json"


def read(content_type: str, body: bytes) -> Any:
    """The value of a body; an empty one is null.

    Raises:
        Refused: it is not JSON, has a name twice in an object, or a value that cannot be stored.
    """
    if body:
        _check_kind(content_type)
    try:
        text = body.decode() or "null"
        found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as exc:
        raise Refused(400, f"The body is not JSON: {exc}.", code="not_json", fix="send one JSON value.") from exc
    if suspect(text) and (refused := refusal(found)) is not None:
        detail = f"{refused.place or 'The body'} is {refused.problem}, which cannot be stored"
        where = Detail(pointer=pointer_of(refused.path), detail=detail)
        raise Refused(400, f"{detail}.", code="value", fix="leave it out.", problems=[where])
    return found


class JsonRequest(Request):
    """A request of a route that takes JSON; without a content type, it is JSON too."""

    async def json(self) -> Any:
        """See `read`."""
        if not hasattr(self, "_strict"):
            self._strict = read(self.headers.get("content-type", JSON), await self.body())
        return self._strict


def _check_kind(content_type: str) -> None:
    """
    Raises:
        Refused: it is not JSON, or not in UTF-8, which JSON is.
    """
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if kind != JSON and not kind.endswith("+json"):
        raise Refused(415, f"The body is {kind[:60]!r}, and this takes JSON.")
    charset = next((one[8:].strip('"') for one in parameters if one.startswith("charset=")), "utf-8")
    if charset not in {"utf-8", "utf8", "us-ascii"}:
        raise Refused(415, f"The body is in {charset[:60]!r}, and JSON is in UTF-8.")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = sorted(name for name, _ in pairs)
        double = next(one for one, other in pairwise(names) if one == other)
        raise ValueError(f"{double[:60]!r} is twice in one object")
    return found
