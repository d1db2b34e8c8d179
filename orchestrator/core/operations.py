"""Operations: one act on many runs, worked off by keepers. What they are, how they stand, and what was foreseen."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pydantic import JsonValue

from orchestrator.errors import UsageError

MOST_RUNS: Final = 100_000
"""The most runs of one operation: they are listed when it is made, in one statement."""
MOST_IDS: Final = 10_000
"""The most runs that are named one by one."""


class Action(StrEnum):
    """What is done to each run."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


class OperationState(StrEnum):
    """Where an operation stands. The last two are final."""

    RUNNING = "running"  # keepers work it off
    PAUSED = "paused"  # nothing is begun until somebody resumes it
    COMPLETED = "completed"  # every run has its outcome
    CANCELLED = "cancelled"  # the runs without an outcome are left as they were


class OperationEvent(StrEnum):
    """What moves an operation."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    COMPLETE = "complete"


class Outcome(StrEnum):
    """What became of one run of an operation."""

    PENDING = "pending"  # it was not its turn yet, or it is tried again
    DONE = "done"  # in the same commit as what was done
    LEFT_OUT = "left_out"  # the run did not allow it when its turn came
    FAILED = "failed"  # an error each time it was tried


S, E = OperationState, OperationEvent
OPERATION_MOVES: Final = MappingProxyType(
    {
        (S.RUNNING, E.PAUSE): S.PAUSED,
        (S.PAUSED, E.RESUME): S.RUNNING,
        (S.RUNNING, E.CANCEL): S.CANCELLED,
        (S.PAUSED, E.CANCEL): S.CANCELLED,
        (S.RUNNING, E.COMPLETE): S.COMPLETED,
    }
)
FINAL_OPERATION: Final = frozenset({S.COMPLETED, S.CANCELLED})

ENDED, SUCCEEDED, STOPPING, OPEN, NOTHING_FAILED, UNKNOWN = (
    "ended",
    "succeeded",
    "stopping",
    "open",
    "nothing_failed",
    "unknown",
)
WHY_LEFT_OUT: Final = MappingProxyType(
    {
        ENDED: "ended already",
        SUCCEEDED: "succeeded",
        STOPPING: "being stopped already",
        OPEN: "not ended yet",
        NOTHING_FAILED: "going on, and nothing of it failed",
        UNKNOWN: "not there",
    }
)
"""Reasons why runs are left out from the beginning, in words that follow "is"."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What an operation would do. `left_out` counts by reason (`WHY_LEFT_OUT`); a count ends at 10,000. The `token`
    says to whoever makes the operation what was foreseen."""

    action: Action
    affected: int
    left_out: Mapping[str, int]
    token: str


def token_of(action: Action, wanted: Mapping[str, JsonValue], affected: int) -> str:
    """For a person between two calls: which question it answers, and the answer."""
    return base64.urlsafe_b64encode(_digest(action, wanted) + affected.to_bytes(4, "big")).decode().rstrip("=")


def affected_of(token: str, action: Action, wanted: Mapping[str, JsonValue]) -> int:
    """How many runs were foreseen.

    Raises:
        UsageError: it is no token, or of another question.
    """
    try:
        told = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        told = b""
    if len(told) != _DIGEST + 4 or told[:_DIGEST] != _digest(action, wanted):
        raise UsageError(
            "The token is not that of a dry run of this action on these runs. Fix: do the dry run again, and give the "
            "token that it answers."
        )
    return int.from_bytes(told[_DIGEST:], "big")


_DIGEST: Final = 12


def _digest(action: Action, wanted: Mapping[str, JsonValue]) -> bytes:
    text = json.dumps([action, dict(wanted)], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()[:_DIGEST]


def operation_sources(event: OperationEvent) -> list[str]:
    """States `event` may leave from, sorted."""
    return sorted(source for source, e in OPERATION_MOVES if e is event)


def operation_target(event: OperationEvent) -> OperationState:
    """The state `event` leads to, wherever it left from."""
    return next(target for (_, e), target in OPERATION_MOVES.items() if e is event)
