"""An application whose OpenAPI document says what the framework does not know of its routes."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

from orchestrator.http import examples
from orchestrator.http.policy import PUBLIC

_SCHEMES: Final[Mapping[str, Any]] = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key, `orc_…`."},
    "session": {"type": "apiKey", "in": "cookie", "name": "__Host-orchestrator-session"},
}


class Described(FastAPI):
    """How one says who asks, with every route that wants to know; lengths of time as they are; and examples."""

    def openapi(self) -> dict[str, Any]:
        found = super().openapi()
        found["components"]["securitySchemes"] = dict(_SCHEMES)
        for methods in found["paths"].values():
            for operation in methods.values():
                if operation["operationId"] not in PUBLIC:
                    operation["security"] = [{name: []} for name in _SCHEMES]
        _plain_durations(found["components"]["schemas"])
        examples.add(found)
        return found


def _plain_durations(schema: Any) -> None:
    """`format: duration` has no fractions of a second (RFC 3339), and ours have."""
    if isinstance(schema, dict) and schema.get("format") == "duration":
        del schema["format"]
        schema["description"] = "A length of time in ISO 8601, as `PT1.5S`."
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _plain_durations(part)
