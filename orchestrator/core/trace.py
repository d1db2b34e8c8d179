"""The trace that a request belongs to, as W3C's Trace Context has it in headers."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_STATE: Final = re.compile(r"[\x20-\x7e]{1,512}")
NAMES: Final = ("traceparent", "tracestate")


def of_headers(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """`traceparent`, and `tracestate` if there is one; nothing where the first is not valid: whoever cannot read it
    begins a trace of their own."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name.lower() in NAMES:
            found.setdefault(name.lower(), []).append(value.strip())
    parents = found.get("traceparent", [])
    if len(parents) != 1 or not _is_valid(parents[0]):
        return {}
    state = ",".join(found.get("tracestate", []))
    return {"traceparent": parents[0], **({"tracestate": state} if _STATE.fullmatch(state) else {})}


def as_json(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> str | None:
    """The same as JSON; None: there is none."""
    found = of_headers(headers)
    return json.dumps(found) if found else None


def _is_valid(parent: str) -> bool:
    """A version that is not known yet may have more behind; ours has not."""
    found = _PARENT.fullmatch(parent)
    if found is None or len(parent) > 512:
        return False
    version, trace, span, more = found.groups()
    return version != "ff" and set(trace) != {"0"} and set(span) != {"0"} and (version != "00" or more is None)
