"""Flows and runs as drawings."""

from typing import Annotated, Any, Final, Literal

from fastapi import Query, Response

Language = Annotated[Literal["mermaid", "dot", "tree", "json"], Query(description="Of the drawing.")]
DRAWINGS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["title", "nodes"],
                    "properties": {
                        "title": {"type": "string"},
                        "nodes": {"type": "array", "items": {"type": "object"}},
                    },
                }
            },
        }
    }
}


def drawing(text: str, language: str) -> Response:
    """The answer with it."""
    return Response(text, media_type="application/json" if language == "json" else "text/plain")
