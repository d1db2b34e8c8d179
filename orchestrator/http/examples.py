"""Examples of requests and answers for the document. Tests check them against their schemas, and send the requests."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

JSON: Final = "application/json"


@cache
def every() -> Mapping[str, Mapping[str, Any]]:
    """By `operationId`: a `request`, and `answers` by their status."""
    text = files("orchestrator.http").joinpath("examples.json").read_text(encoding="utf-8")
    found: Mapping[str, Mapping[str, Any]] = json.loads(text)
    return found


def add(document: dict[str, Any]) -> None:
    """Put them into the document. They are not declared with the routes: the framework drops what is null in them."""
    for operation in (one for path in document["paths"].values() for one in path.values()):
        given = every().get(operation["operationId"], {})
        if "request" in given:
            operation["requestBody"]["content"][JSON]["example"] = given["request"]
        for status, answer in given.get("answers", {}).items():
            operation["responses"][status]["content"][JSON]["example"] = answer
