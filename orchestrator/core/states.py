"""States of runs and steps, and the moves between them: declared here, once.

SQL guards, CHECK constraints and the diagrams in `docs/states.md` are built from these tables or compared with them.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class RunStatus(StrEnum):
    """Where a run stands. The last four are final unless an operator opens a new epoch."""

    PENDING = "pending"  # accepted and durable; no step was claimed yet
    RUNNING = "running"  # at least one step was claimed
    WAITING = "waiting"  # only parked work is left (timers, signals): stored as RUNNING, worked out when read
    SUCCEEDED = "succeeded"  # every step ended, none failed
    FAILED = "failed"  # every step ended, at least one failed
    CANCELLED = "cancelled"  # stopped on request
    TIMED_OUT = "timed_out"  # stopped at its deadline


class StepStatus(StrEnum):
    """Where a step stands. The last five are final unless an operator retries."""

    BLOCKED = "blocked"  # predecessors are open, or its loop's window is full
    READY = "ready"  # dispatched; a worker may claim it
    RUNNING = "running"  # claimed by a worker, or a loop with open children
    WAITING = "waiting"  # parked until `due_at` (retry back-off, the next poll) or `wake_at` (a wait)
    SUCCEEDED = "succeeded"  # output recorded
    FAILED = "failed"  # out of attempts, or an error that is not retried
    SKIPPED = "skipped"  # can never run; `reason` says why
    CANCELLED = "cancelled"  # ended by a cancel or by the run's deadline
    COMPENSATED = "compensated"  # its effect was undone


class StepKind(StrEnum):
    """What a step is. Only a TASK has a handler, and is ever claimed."""

    TASK = "task"  # a worker runs its handler
    LOOP = "loop"  # it runs while children of it are open
    ITEM = "item"  # one item of a loop with several steps; it runs while these do
    MERGE = "merge"  # it gives one of the values before it, at once
    WAIT = "wait"  # it waits for a time, a signal or an answer
    REQUIRE = "require"  # it fails at once unless a condition holds
    FLOW = "flow"  # a run of another flow does it


class StepEvent(StrEnum):
    """What moves a step."""

    UNBLOCK = "unblock"  # every predecessor ended as asked
    CLAIM = "claim"  # the one door into RUNNING
    DELEGATE = "delegate"  # an item of a loop is let in, and its steps run for it
    EXPAND = "expand"  # a loop creates its children
    SUCCEED = "succeed"
    FAIL = "fail"
    PARK = "park"  # a wait opens
    BACK_OFF = "back_off"  # failed with attempts left
    POLL = "poll"  # asked, and not ready yet; no failure is charged
    DUE = "due"  # the back-off, or the pause between two polls, is over
    LEASE_EXPIRE = "lease_expire"  # recovery re-queues, it never runs
    RELEASE = "release"  # given back by a live worker, no attempt charged
    SKIP = "skip"
    LEAVE_OUT = "leave_out"  # an item whose steps were all skipped; what a loop stopped that was under way
    MARK = "mark"  # an operator says that it is done
    CANCEL = "cancel"
    QUEUE_TIMEOUT = "queue_timeout"  # nobody claimed it in time
    RETRY = "retry"  # an operator opens a new epoch


class RunEvent(StrEnum):
    """What moves a run."""

    BEGIN = "begin"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    TIME_OUT = "time_out"
    RETRY = "retry"


S, E = StepStatus, StepEvent
STEP_MOVES: Final = MappingProxyType(
    {
        (S.BLOCKED, E.UNBLOCK): S.READY,
        (S.BLOCKED, E.CLAIM): S.RUNNING,  # the finishing worker claims the only successor in the same commit
        (S.BLOCKED, E.EXPAND): S.RUNNING,
        (S.BLOCKED, E.DELEGATE): S.RUNNING,
        (S.BLOCKED, E.PARK): S.WAITING,
        (S.BLOCKED, E.SUCCEED): S.SUCCEEDED,  # a loop over no items
        (S.BLOCKED, E.FAIL): S.FAILED,  # a loop whose items are not a list
        (S.BLOCKED, E.SKIP): S.SKIPPED,
        (S.BLOCKED, E.CANCEL): S.CANCELLED,
        **{(source, E.SKIP): S.SKIPPED for source in (S.READY, S.WAITING)},  # by an operator
        **{(source, E.MARK): S.SUCCEEDED for source in (S.BLOCKED, S.READY, S.WAITING)},
        (S.READY, E.CLAIM): S.RUNNING,
        (S.READY, E.CANCEL): S.CANCELLED,
        (S.READY, E.QUEUE_TIMEOUT): S.FAILED,
        (S.READY, E.SKIP): S.SKIPPED,
        (S.RUNNING, E.SUCCEED): S.SUCCEEDED,
        (S.RUNNING, E.FAIL): S.FAILED,
        (S.RUNNING, E.LEAVE_OUT): S.SKIPPED,
        (S.RUNNING, E.BACK_OFF): S.WAITING,
        (S.RUNNING, E.POLL): S.WAITING,
        (S.RUNNING, E.LEASE_EXPIRE): S.READY,
        (S.RUNNING, E.RELEASE): S.READY,
        (S.RUNNING, E.CANCEL): S.CANCELLED,
        (S.WAITING, E.DUE): S.READY,
        (S.WAITING, E.SUCCEED): S.SUCCEEDED,  # a wait whose time has come, or whose signal
        (S.WAITING, E.FAIL): S.FAILED,  # a wait whose time is over
        (S.WAITING, E.DELEGATE): S.RUNNING,  # a call of a flow is tried again
        (S.WAITING, E.CANCEL): S.CANCELLED,
        (S.WAITING, E.SKIP): S.SKIPPED,
        (S.FAILED, E.RETRY): S.BLOCKED,  # and on from there in the same commit, when nothing is in the way
        (S.CANCELLED, E.RETRY): S.BLOCKED,
        (S.SKIPPED, E.RETRY): S.BLOCKED,
    }
)
R, V = RunStatus, RunEvent
RUN_MOVES: Final = MappingProxyType(
    {
        (R.PENDING, V.BEGIN): R.RUNNING,
        **{(source, V.SUCCEED): R.SUCCEEDED for source in (R.PENDING, R.RUNNING)},
        **{(source, V.FAIL): R.FAILED for source in (R.PENDING, R.RUNNING)},
        **{(source, V.CANCEL): R.CANCELLED for source in (R.PENDING, R.RUNNING)},
        **{(source, V.TIME_OUT): R.TIMED_OUT for source in (R.PENDING, R.RUNNING)},
        **{(source, V.RETRY): R.RUNNING for source in (R.FAILED, R.CANCELLED, R.TIMED_OUT)},
    }
)

STORED_RUN: Final = frozenset(R) - {R.WAITING}
HALT: Final = frozenset({R.CANCELLED, R.TIMED_OUT})
"""How a run can be stopped before its steps have ended."""
ATTEMPT: Final = frozenset(
    {S.RUNNING, S.SUCCEEDED, S.FAILED, S.CANCELLED, "crashed", "polled", "released", "timed_out"}
)
"""How an attempt ended. `crashed`: its worker was lost; `released`: its worker was told to stop, and handed it
back or did not wait; `polled`: what it looks for is not there yet."""
TICK: Final = frozenset({"started", "queued", "pending", "skipped", "missed", "cancelled", "failed"})
"""What became of a scheduled time. `queued` waits for the run before, `pending` for its turn in a backfill."""
OPEN_RUN: Final = frozenset({R.PENDING, R.RUNNING, R.WAITING})
FINAL_RUN: Final = frozenset(R) - OPEN_RUN
OPEN_STEP: Final = frozenset({S.BLOCKED, S.READY, S.RUNNING, S.WAITING})
FINAL_STEP: Final = frozenset(S) - OPEN_STEP

_TARGETS: Final = MappingProxyType({event: status for (_, event), status in STEP_MOVES.items()})


def sources(event: StepEvent) -> list[str]:
    """States `event` may leave from: the `:from_states` guard of its UPDATE, sorted."""
    return sorted(source for source, e in STEP_MOVES if e is event)


def target(event: StepEvent) -> StepStatus:
    """The state `event` leads to, wherever it left from."""
    return _TARGETS[event]


def run_sources(event: RunEvent) -> list[str]:
    """Run states `event` may leave from, sorted."""
    return sorted(source for source, e in RUN_MOVES if e is event)
