"""The first rows of steps, as the JSON that statements expand; what is not in a row is null."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from orchestrator.core.plan.names import Names
from orchestrator.core.plan.node import TRIGGER, Node
from orchestrator.core.states import StepEvent, StepStatus

SEPARATOR: Final = "\x1f"
_ESCAPED: Final = json.dumps(SEPARATOR)[1:-1]


def item_rows(loop: Node, first: StepEvent | None = None) -> str:
    """The step rows of an item of this loop, with `SEPARATOR` where they name it; all closed, or the only one that
    waits for nothing dispatched or claimed."""
    assert loop.graph is not None
    names = loop.graph.names
    rows = as_json(_item_row(node, names, loop.key, first) for node in loop.graph.nodes.values())
    return rows.replace(_ESCAPED, SEPARATOR)


def _item_row(node: Node, names: Names, loop: str, first: StepEvent | None) -> dict[str, Any]:
    row = row_of(node)
    goes = first if row["ready"] else None
    needs = [
        key if key == TRIGGER else f"{SEPARATOR}.{key}" if names.steps[key] == names.depth else names.row(key, loop)
        for key in node.needs
    ]
    return {
        **row,
        "step_key": f"{SEPARATOR}.{node.key}",
        "ready": None,
        "needs": needs,
        "item": bool(node.reads.loops) or None,
        "status": StepStatus.RUNNING if goes is StepEvent.CLAIM else StepStatus.BLOCKED,
        "queued": goes is StepEvent.UNBLOCK,
        "attempts": int(goes is StepEvent.CLAIM),
    }


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
