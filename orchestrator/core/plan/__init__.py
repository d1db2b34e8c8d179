"""A manifest compiled for running. `Plan` is what the rest of the engine asks."""

from orchestrator.core.plan.edges import Edge, Place
from orchestrator.core.plan.node import TRIGGER, WINDOW, Graph, Node
from orchestrator.core.plan.paths import Path
from orchestrator.core.plan.plan import Expected, Plan, backwards
from orchestrator.core.plan.rows import item_rows, seconds

__all__ = [
    "TRIGGER",
    "WINDOW",
    "Edge",
    "Expected",
    "Graph",
    "Node",
    "Path",
    "Place",
    "Plan",
    "backwards",
    "item_rows",
    "seconds",
]
