"""Flows and runs as drawings: `Picture` knows what there is to draw, each writer one language."""

from typing import Final

from orchestrator.core.pictures.data import data
from orchestrator.core.pictures.dot import dot
from orchestrator.core.pictures.mermaid import mermaid
from orchestrator.core.pictures.model import Picture, Stand
from orchestrator.core.pictures.tree import tree
from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import UsageError

__all__ = ["Picture", "Stand", "drawn"]

_WRITERS: Final = {"tree": tree, "mermaid": mermaid, "dot": dot, "json": data}


def drawn(picture: Picture, language: str) -> str:
    """The picture as text in this language: `tree` (for a terminal), `mermaid`, `dot` or `json`.

    Raises:
        UsageError: it is another one.
    """
    writer = _WRITERS.get(language)
    if writer is None:
        raise UsageError(f"There is no writer for {language!r}. Fix: {did_you_mean(language, _WRITERS)}")
    return writer(picture)
