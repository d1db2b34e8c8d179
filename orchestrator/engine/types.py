"""The facts that callers of the engine hold, under one name."""

from orchestrator.core.facts import (
    Beat,
    Chain,
    Dispatch,
    Explanation,
    Finished,
    Lease,
    Overrun,
    Renewal,
    Started,
    StartRequest,
    StepError,
    Swept,
    WorkerInfo,
)

__all__ = [
    "Beat",
    "Chain",
    "Dispatch",
    "Explanation",
    "Finished",
    "Lease",
    "Overrun",
    "Renewal",
    "StartRequest",
    "Started",
    "StepError",
    "Swept",
    "WorkerInfo",
]
