"""What people and clients read, a module per subject. Nothing here writes."""

from orchestrator.ledger.reads import (
    children,
    clock,
    connections,
    events,
    flows,
    notifications,
    queues,
    rows,
    runs,
    steps,
    webhooks,
    workers,
)

__all__ = [
    "children",
    "clock",
    "connections",
    "events",
    "flows",
    "notifications",
    "queues",
    "rows",
    "runs",
    "steps",
    "webhooks",
    "workers",
]
