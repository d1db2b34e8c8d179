"""How long somebody waits for a run, when it is worth a look, and what is said of the end."""

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from orchestrator.core.durations import parse_duration
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.engine.runs.advice import told
from orchestrator.errors import RunCancelled, RunFailed, RunTimedOut, Unavailable, WaitTimeout
from orchestrator.ledger.reads.rows import RunRow

if TYPE_CHECKING:
    from orchestrator.client.run_handle import RunHandle

Timeout = float | str | timedelta | None
"""A length of time as everywhere: seconds, a string such as `5m`, or a timedelta. None: for ever."""
_LOOK_S: Final = 0.01
"""Whoever waits for a run that has been known for this long looks first: it may have ended."""
_SHARE: Final = 1 / 24
"""Then it looks again after this share of that time,"""
_MOMENT_S: Final = 0.02
"""but after so long at the latest; from then on it is told."""


def seconds(timeout: Timeout) -> float | None:
    """A length of time in seconds; None: for ever."""
    return None if timeout is None else parse_duration(timeout).total_seconds()


def is_old(handle: "RunHandle[Any]") -> bool:
    """Whether the run may well have ended by now: then whoever waits looks first."""
    return time.monotonic() - handle.known_since > _LOOK_S


def seen(handle: "RunHandle[Any]") -> RunStatus | None:
    """As `final_status`; None, too, while the database is away."""
    try:
        if handle.siblings is not None:
            return handle.siblings.final_status(handle.client, handle.id)
        return handle.final_status()
    except Unavailable:  # it is waited for
        return None


def final(run_id: UUID, status: RunStatus, limit_s: float | None) -> RunStatus:
    """`status`, if it is a final one.

    Raises:
        WaitTimeout: it is not, and the time is over.
    """
    if status not in FINAL_RUN:
        raise WaitTimeout(
            f"Run {run_id} is still {status} after {limit_s:g} s; it goes on. "
            f"Fix: `orchestrator run explain {run_id}` says what it waits for.",
            run_id=str(run_id),
        )
    return status


def ended(run: RunRow, fix: str) -> RunFailed | RunCancelled:
    """The error for a run that ended without a result."""
    error = run.error or {}
    facts: dict[str, Any] = {"run_id": str(run.id), "flow": run.flow, "step": error.get("step")}
    name = f"Run {run.id} of {run.flow}"
    if run.status is RunStatus.CANCELLED:
        by = f" by {error['by']}" if error.get("by") else ""
        return RunCancelled(f"{name} was cancelled{by}: {error.get('message')}. Fix: {fix}", **facts)
    if run.status is RunStatus.TIMED_OUT:
        return RunTimedOut(f"{name} passed its deadline, {run.deadline}. Fix: {fix}", **facts)
    what = f"{error.get('type', 'error')}: {told(error)[0]}"
    return RunFailed(f"{name} failed at step {error.get('step', '?')}: {what}. Fix: {fix}", **facts)


def moment_s(handle: "RunHandle[Any]", ends: float) -> float:
    """After how long a second look is worth it. Runs that were started together end one after the other: while this one
    is waited for, others end, which are then seen at once and cost the watcher nothing."""
    now = time.monotonic()
    return max(0.0, min((now - handle.known_since) * _SHARE, _MOMENT_S, ends - now))


def deadline(limit_s: float | None) -> float:
    """When a wait of this length is over, by the monotonic clock."""
    return math.inf if limit_s is None else time.monotonic() + limit_s


def left_s(ends: float) -> float | None:
    """How long until then; None: for ever."""
    return None if ends == math.inf else max(0.0, ends - time.monotonic())
