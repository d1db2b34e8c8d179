"""Headers of the request that starts runs, as a web framework has them: a mapping, or pairs."""

import json
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from orchestrator.core.headers import kept
from orchestrator.errors import UsageError

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Those that prove who sent the request are not kept."""
_FIX: Final = "Fix: give a mapping of names to texts, such as `request.headers`."


def headers_of(given: Headers | None) -> str | None:
    """What a run keeps of them, as JSON; None: it has none.

    Raises:
        UsageError: these are not names with texts.
    """
    return None if given is None else json.dumps(kept(_pairs(given)))


def _pairs(given: object) -> list[tuple[str, str]]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UsageError(f"headers is {type(given).__name__}. {_FIX}")
    return [_pair(one) for one in (given.items() if isinstance(given, Mapping) else given)]


def _pair(given: object) -> tuple[str, str]:
    match given:
        case (str(name), str(text)):
            return name, text
    raise UsageError(f"headers has something that is not a name with its text. {_FIX}")
