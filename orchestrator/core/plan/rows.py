"""The first rows of steps, as the JSON that statements expand; what is not in a row is null."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from orchestrator.core.plan.names import Names
from orchestrator.core.plan.node import TRIGGER, Node

SEPARATOR: Final = "\x1f"


def item_rows(loop: Node) -> str:
    """The step rows of an item of this loop, all closed; what one needs of its own item begins with a dot."""
    assert loop.graph is not None
    return as_json(_item_row(node, loop.graph.names, loop.key) for node in loop.graph.nodes.values())


def _item_row(node: Node, names: Names, loop: str) -> dict[str, Any]:
    needs = [
        key if key == TRIGGER else f".{key}" if names.steps[key] == names.depth else names.row(key, loop)
        for key in node.needs
    ]
    return {**row_of(node), "ready": None, "needs": SEPARATOR.join(needs), "item": bool(node.reads.loops) or None}


def row_of(node: Node) -> dict[str, Any]:
    waits = len(node.definition.run_after)
    return {
        "step_key": node.key,
        "position": node.position,
        "kind": node.kind,
        "type": node.definition.type,
        "task": node.task,
        "ready": waits == 0 and node.plain,
        "deps_open": waits,
        "queue": node.queue,
        "priority": node.priority,
        "timeout": seconds(node.definition.timeout),
        "queue_timeout": seconds(node.definition.queue_timeout),
        "needs": SEPARATOR.join(node.needs),
    }


def seconds(value: timedelta | None) -> str | None:
    """A duration as PostgreSQL reads an interval."""
    return None if value is None else f"{value.total_seconds()} seconds"


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    given = [{k: v for k, v in row.items() if v is not None} for row in rows]
    return json.dumps(given, separators=(",", ":"))
