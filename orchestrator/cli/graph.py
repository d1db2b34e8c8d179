"""Drawings, and the input of a flow as a table."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.inputs import types_of
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest

Mermaid = Annotated[bool, typer.Option("--mermaid", help="As Mermaid text, for Markdown.")]
Dot = Annotated[bool, typer.Option("--dot", help="In the language of Graphviz, for `dot -Tsvg`.")]


def language(*, mermaid: bool, dot: bool) -> str:
    """The one that is asked for.

    Raises:
        UsageError: both.
    """
    if mermaid and dot:
        raise UsageError("--mermaid and --dot are two languages. Fix: give one.")
    return "mermaid" if mermaid else "dot" if dot else "tree"


def of_flow(manifest: "Manifest", language: str = "tree") -> str:
    """A flow, drawn."""
    from orchestrator.core.pictures import Picture, drawn

    return drawn(Picture.of(manifest), language)


def parameters(manifest: "Manifest") -> list[tuple[object, ...]]:
    """Name, type, required, default of each input."""
    schema = manifest.input_schema
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return []
    names = required if isinstance(required, list) else []
    return [
        (name, " or ".join(sorted(types_of(part, schema))) or "any", name in names, _default(part))
        for name, part in properties.items()
    ]


def _default(part: object) -> str:
    from orchestrator.cli.runview import brief

    return brief(part["default"], 60) if isinstance(part, dict) and "default" in part else ""
