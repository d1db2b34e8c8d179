"""Which steps a decided race leaves without a purpose."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.core.planner import Node


def lead_only_to(nodes: "Mapping[str, Node]", race: str) -> frozenset[str]:
    """The steps before a race, however far, that nothing else waits for."""
    found = {race}
    left = list(nodes[race].definition.run_after)
    while left:
        key = left.pop()
        if key not in found and all(edge.target in found for edge in nodes[key].edges):
            found.add(key)
            left += nodes[key].definition.run_after
    return frozenset(found - {race})
