"""Headers of the request that starts runs, as a web framework has them: a mapping, or pairs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from uuid_utils.compat import uuid7

from orchestrator.core.facts import StartRequest
from orchestrator.core.headers import kept
from orchestrator.core.trace import of_headers
from orchestrator.errors import UsageError
from orchestrator.observe.traces import incoming

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Those that prove who sent the request are not kept."""
_FIX: Final = "Fix: give a mapping of names to texts, such as `request.headers`."


def headers_of(given: Headers | None) -> str | None:
    """What a run keeps of them, as JSON; None: it has none.

    Raises:
        UsageError: these are not names with texts.
    """
    return None if given is None else json.dumps(kept(_pairs(given)))


def traced(requests: list[StartRequest], headers: str | None) -> list[StartRequest]:
    """With the trace that they are made in: that of the current span, or of these headers."""
    came = incoming.current() or (of_headers(json.loads(headers)) if headers else {})
    if not incoming.decides():
        return [replace(one, trace=json.dumps(dict(came))) for one in requests] if came else requests
    known = [replace(one, run_id=one.run_id or uuid7()) for one in requests]
    return [replace(one, trace=incoming.kept(one.run_id, came)) for one in known if one.run_id is not None]


def _pairs(given: object) -> list[tuple[str, str]]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UsageError(f"headers is {type(given).__name__}. {_FIX}")
    return [_pair(one) for one in (given.items() if isinstance(given, Mapping) else given)]


def _pair(given: object) -> tuple[str, str]:
    match given:
        case (str(name), str(text)):
            return name, text
    raise UsageError(f"headers has something that is not a name with its text. {_FIX}")
