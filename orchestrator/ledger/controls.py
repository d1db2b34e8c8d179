"""What operators do to runs, as statements. The caller holds the run row FOR UPDATE."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch, Lease
from orchestrator.core.fingerprint import told_apart
from orchestrator.core.reopen import Reset
from orchestrator.core.settling import Settle
from orchestrator.core.states import RunStatus, StepEvent, StepStatus, sources, target
from orchestrator.ledger.rows import dispatches, one, run

_SETTLED: Final = {StepEvent.SKIP: "step.skipped", StepEvent.MARK: "step.marked"}


@dataclass(frozen=True, slots=True)
class Halt:
    """How a run is to end before its time, who said so and why, and how long its handlers may take to stop."""

    status: RunStatus
    by: str | None
    reason: str
    grace: timedelta


def halt(tx: Connection, run_id: UUID, halt: Halt) -> None:
    """No claim is given after this commit; what is not running is cancelled."""
    run(
        tx,
        "halt",
        run_id=run_id,
        halt=halt.status.value,
        by=halt.by,
        reason=halt.reason,
        grace=halt.grace,
        timed_out=halt.status is RunStatus.TIMED_OUT,
    )


def release(tx: Connection, lease: Lease) -> tuple[Dispatch, ...]:
    """Give a claim back unstarted; empty when it was not live any more."""
    rows = run(tx, "release", run_id=lease.run_id, step_key=lease.step_key, version=lease.fence, owner=lease.owner)
    return dispatches(rows.all())


def step_states(tx: Connection, run_id: UUID) -> dict[str, StepStatus]:
    """Status by key, children of loops left out."""
    return {row.step_key: StepStatus(row.status) for row in run(tx, "step_states", run_id=run_id)}


def failed_children(tx: Connection, run_id: UUID, loop_key: str, limit: int) -> list[str]:
    """The first children of a loop that ended without success, in order."""
    return [row.step_key for row in run(tx, "failed_children", run_id=run_id, loop_key=loop_key, limit=limit)]


def reset_blocked(tx: Connection, run_id: UUID, waits: Mapping[str, tuple[int, int]]) -> None:
    """Ended steps back to BLOCKED, with new counters."""
    if waits:
        run(
            tx,
            "reset_blocked",
            run_id=run_id,
            step_keys=list(waits),
            open=[open_ for open_, _ in waits.values()],
            unmet=[unmet for _, unmet in waits.values()],
        )


def reset_children(tx: Connection, run_id: UUID, step_keys: Sequence[str]) -> None:
    """Ended children of a loop back to BLOCKED."""
    run(tx, "reset_children", run_id=run_id, step_keys=list(step_keys))


def reset_loop(tx: Connection, run_id: UUID, loop_key: str) -> None:
    """All ended children of a loop but those that succeeded back to BLOCKED."""
    run(tx, "reset_loop", run_id=run_id, loop_key=loop_key)


@dataclass(frozen=True, slots=True)
class Reopened:
    """A loop's children, counted again: all, those that are open, those of them that its window let in, and those
    that failed."""

    width: int
    open: int
    moving: int
    failed: int


def reopen_loop(tx: Connection, run_id: UUID, loop_key: str, *, windowed: bool) -> Reopened:
    """Count a loop's children again. When they go through its window, the next child is looked up from now on."""
    pointer = -1 if windowed else None
    row = one(tx, "reopen_loop", run_id=run_id, loop_key=loop_key, pointer=pointer, keep=not windowed)
    assert row is not None
    return Reopened(row.width, row.children_open, row.moving, row.children_failed)


def aim_window(tx: Connection, run_id: UUID, loop_key: str, index: int | None) -> None:
    """The next child is the one at this index, and all behind it wait too; None: nobody waits."""
    run(tx, "aim_window", run_id=run_id, loop_key=loop_key, pointer=index)


def opened_loops(tx: Connection, run_id: UUID, step_keys: Iterable[str]) -> frozenset[str]:
    """Loops that have children, among these steps."""
    return frozenset(row.step_key for row in run(tx, "opened_loops", run_id=run_id, step_keys=list(step_keys)))


def states_in_items(tx: Connection, run_id: UUID, items: Sequence[str]) -> dict[str, dict[str, StepStatus]]:
    """By item, where its steps stand."""
    found: dict[str, dict[str, StepStatus]] = {item: {} for item in items}
    for row in run(tx, "states_in_items", run_id=run_id, item_keys=list(items)):
        found[row.loop_key][row.step_key] = StepStatus(row.status)
    return found


def recount_item(
    tx: Connection, run_id: UUID, item_key: str, *, sinks: int, failures: int, reason: str | None
) -> StepStatus | None:
    """Count an item again, steps of which were reset. `reason`: of the first of the failures that stay.

    Where it stands; None: it is over."""
    row = one(tx, "recount_item", run_id=run_id, item_key=item_key, sinks=sinks, failures=failures, reason=reason)
    return None if row is None else StepStatus(row.status)


def reopen_run(tx: Connection, run_id: UUID, reset: Reset, *, error: JsonValue, by: str, steps: Sequence[str]) -> None:
    """A new epoch. `error`: that of the first of the failures that stay as they are."""
    error, fingerprint = told_apart(error)
    run(
        tx,
        "reopen_run",
        run_id=run_id,
        sinks_open=reset.sinks_open,
        failures=len(reset.failed),
        error=error and json.dumps(error),
        fingerprint=fingerprint,
        by=by,
        steps=json.dumps(list(steps)),
    )


def settle_step(tx: Connection, asked: Settle) -> None:
    """The step ends as asked, with the output that was given, if there is one. The caller has seen that it may."""
    row = one(
        tx,
        "settle_step",
        run_id=asked.run_id,
        step_key=asked.step_key,
        status=target(asked.event).value,
        output=asked.output,
        reason=asked.told,
        type=_SETTLED[asked.event],
        facts=json.dumps({"by": asked.by, "reason": asked.reason}),
        from_states=sources(asked.event),
    )
    assert row is not None


def failures(tx: Connection, run_id: UUID, step_key: str) -> int:
    """Attempts of the step that count against its retries."""
    row = one(tx, "failures", run_id=run_id, step_key=step_key)
    return 0 if row is None else int(row.failures)


def crashes(tx: Connection, run_id: UUID, step_key: str) -> int:
    """Attempts of the step that were lost."""
    row = one(tx, "failures", run_id=run_id, step_key=step_key)
    return 0 if row is None else int(row.crashes)


def charge_crash(tx: Connection, run_id: UUID, step_key: str) -> None:
    """Count one more lost attempt of the step."""
    run(tx, "charge_crash", run_id=run_id, step_key=step_key)
