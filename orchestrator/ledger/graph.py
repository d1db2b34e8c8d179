"""Statements of the general path. The caller holds the run row (`lock`), and takes locks in the order run, step,
claim."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, Row

from orchestrator.core.facts import Dispatch, Finished, StepError
from orchestrator.core.fingerprint import told_apart
from orchestrator.core.plan import Node, Place, item_rows, seconds
from orchestrator.core.states import RunEvent, RunStatus, StepEvent, StepStatus, run_sources, sources, target
from orchestrator.errors import RunNotFound
from orchestrator.ledger import ends
from orchestrator.ledger.rows import dispatches, one, run

OUTPUT_LIMIT: Final = 1_000_000_000
"""Bytes of one output: PostgreSQL holds a little more in a value, and in a message that carries it."""


@dataclass(frozen=True, slots=True)
class LockedRun:
    """The run row while this transaction holds it."""

    id: UUID
    flow: str
    manifest_hash: str
    status: RunStatus
    halt: RunStatus | None
    epoch: int
    sinks_open: int
    failures: int
    trigger: str
    """What started it."""


def lock(tx: Connection, run_id: UUID, *, against_claims: bool = False) -> LockedRun:
    """Lock the run row; with `against_claims` also wait for claims under way and hold back new ones.

    Raises:
        RunNotFound: no such run.
    """
    row = one(tx, "lock_run_against_claims" if against_claims else "lock_run", run_id=run_id)
    if row is None:
        raise RunNotFound(f"No run {run_id}. Fix: `orchestrator run ls` lists them.", run_id=str(run_id))
    return _locked(row)


def lock_free(tx: Connection, run_ids: Sequence[UUID]) -> list[LockedRun]:
    """Lock those of these runs that nobody holds."""
    return [_locked(row) for row in run(tx, "lock_free_runs", run_ids=list(run_ids)).all()]


def _locked(row: Any) -> LockedRun:
    halt = RunStatus(row.halt) if row.halt else None
    return LockedRun(
        row.id,
        row.flow,
        row.manifest_hash,
        RunStatus(row.status),
        halt,
        row.epoch,
        row.sinks_open,
        row.failures,
        row.trigger_type,
    )


def end_claim(
    tx: Connection, run_id: UUID, step_key: str, version: int, owner: str | None = None, *, expired: bool = False
) -> int | None:
    """The fence. The attempt of the claim that was ended; None when it was not live at this version, or, with
    `expired`, when its lease has not run out."""
    row = one(tx, "end_claim", run_id=run_id, step_key=step_key, version=version, owner=owner, expired=expired)
    return None if row is None else int(row.attempt)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, and what its handler was given (JSON text)."""

    status: str
    error: StepError | None = None
    inputs: str | None = None


def end_attempt(tx: Connection, run_id: UUID, step_key: str, attempt: int, end: AttemptEnd) -> None:
    """Record how the attempt ended."""
    error = end.error
    run(
        tx,
        "end_attempt",
        run_id=run_id,
        step_key=step_key,
        attempt=attempt,
        status=end.status,
        error_type=error and error.type,
        error_message=error and error.message,
        error_traceback=error and error.traceback,
        error_fingerprint=error and error.fingerprint,
        inputs=end.inputs,
    )


def end_step(
    tx: Connection,
    run_id: UUID,
    step_key: str,
    by: StepEvent,
    *,
    reason: str | None = None,
    charged: Literal["failure", "crash"] | None = None,
) -> bool:
    """Move the step to the final state that `by` leads to, and count what it is `charged` with; False when it is not in
    a state that `by` may leave."""
    found = one(
        tx,
        "end_step",
        run_id=run_id,
        step_key=step_key,
        status=target(by).value,
        reason=reason,
        failed=int(charged == "failure"),
        crashed=int(charged == "crash"),
        from_states=sources(by),
    )
    return found is not None


class Parked(NamedTuple):
    """A step that waits for its back-off, and how often it was polled before."""

    due_at: datetime
    polls: int


def succeed(tx: Connection, run_id: UUID, step_key: str, output: str, source: StepStatus) -> None:
    """A step without a handler succeeds, from the state that it is in; `output` is JSON text."""
    assert source in sources(StepEvent.SUCCEED)
    row = one(tx, "succeed", run_id=run_id, step_key=step_key, output=output, from_states=[source.value])
    assert row is not None


def withdraw(tx: Connection, run_id: UUID, step_keys: Sequence[str], reason: str) -> list[str]:
    """Skip those of these steps that have not begun, and that nobody is taking at this moment."""
    by = {"from_states": sources(StepEvent.SKIP), "reason": reason, "facts": _json({"reason": reason})}
    return [row.step_key for row in run(tx, "withdraw", run_id=run_id, step_keys=list(step_keys), **by)]


def set_needs(tx: Connection, run_id: UUID, step_key: str, needs: Sequence[str]) -> None:
    """Which outputs the step is given: what ends later is not seen by it."""
    run(tx, "set_needs", run_id=run_id, step_key=step_key, needs=list(needs))


def park(tx: Connection, run_id: UUID, step_key: str, delay: timedelta) -> Parked | None:
    """RUNNING to WAITING; None when the step was not running."""
    row = one(tx, "park", run_id=run_id, step_key=step_key, delay=delay, from_states=sources(StepEvent.BACK_OFF))
    return None if row is None else Parked(row.due_at, row.polls)


def ready(tx: Connection, run_id: UUID, step_keys: Sequence[str], by: StepEvent) -> tuple[Dispatch, ...]:
    """Make steps READY, each with a new dispatch."""
    if not step_keys:
        return ()
    rows = run(tx, "ready", run_id=run_id, step_keys=list(step_keys), from_states=sources(by))
    return dispatches(rows.all())


@dataclass(frozen=True, slots=True)
class Ended:
    """Predecessors that ended, counted for one step that waits for them, and how many of them ended otherwise than
    asked."""

    count: int
    unmet: int


def predecessors_ended(tx: Connection, run_id: UUID, ended: Mapping[str, Ended]) -> list[Row[Any]]:
    """Take ended predecessors off each step; the steps that were still waiting, with what is left."""
    if not ended:
        return []
    keys = sorted(ended)
    return list(
        run(
            tx,
            "predecessors_ended",
            run_id=run_id,
            step_keys=keys,
            ended=[ended[key].count for key in keys],
            unmet=[ended[key].unmet for key in keys],
        )
    )


def skip(tx: Connection, run_id: UUID, reasons: Mapping[str, str], by: StepEvent) -> list[str]:
    """Move steps to SKIPPED, each with its reason; the keys of those that were in a state that `by` may leave."""
    if not reasons:
        return []
    facts = [_json({"reason": reason}) for reason in reasons.values()]
    parameters = {"step_keys": list(reasons), "reasons": list(reasons.values()), "facts": facts}
    rows = run(tx, "skip", run_id=run_id, from_states=sources(by), **parameters)
    return [row.step_key for row in rows]


def take(tx: Connection, run_id: UUID, step_key: str, owner: str, lease: timedelta) -> Row[Any]:
    """Claim a step that waits for nothing any more; the step and its claim."""
    row = one(tx, "take", run_id=run_id, step_key=step_key, owner=owner, lease_for=lease)
    assert row is not None
    return row


def statuses(tx: Connection, run_id: UUID, step_keys: Sequence[str]) -> dict[str, StepStatus]:
    """Where steps stand, as this transaction sees them."""
    rows = run(tx, "step_statuses", run_id=run_id, step_keys=list(step_keys))
    return {row.step_key: StepStatus(row.status) for row in rows}


Items = Place | str
"""Where a loop's list stands; or the list, as JSON text."""


def take_time(tx: Connection) -> None:
    """What follows in this transaction grows with a run: five minutes for each statement."""
    run(tx, "take_time")


def describe_items(tx: Connection, run_id: UUID, items: Place) -> tuple[str | None, int | None]:
    """The JSON kind of the list, and its length if it is one."""
    row = one(tx, "loop_items", run_id=run_id, source=items.source, path=list(items.path))
    return (None, None) if row is None else (row.kind, row.length)


def expand(tx: Connection, run_id: UUID, node: Node, items: Items) -> tuple[Dispatch, ...]:
    """Open a loop: insert its children, dispatch those its window lets in."""
    place, literal = (Place(None, ()), items) if isinstance(items, str) else (items, None)
    rows = run(
        tx,
        "expand",
        run_id=run_id,
        source=place.source,
        path=list(place.path),
        items=literal,
        from_states=sources(StepEvent.EXPAND),
        **children(node),
    )
    return dispatches(rows.all())


def open_items(tx: Connection, run_id: UUID, node: Node, items: Items) -> int:
    """Open a loop with a graph: insert a row for each item, none of which is let in yet; how many."""
    place, literal = (Place(None, ()), items) if isinstance(items, str) else (items, None)
    row = one(
        tx,
        "open_items",
        run_id=run_id,
        source=place.source,
        path=list(place.path),
        items=literal,
        from_states=sources(StepEvent.EXPAND),
        loop_key=node.key,
        position=node.position,
        queue=node.queue,
        priority=node.priority,
        let_in=node.window,
    )
    return 0 if row is None else int(row.items)


class Entered(NamedTuple):
    """An item that was let in; `fresh`: for the first time, so that its steps were made just now."""

    key: str
    fresh: bool


def enter_items(tx: Connection, run_id: UUID, loop: Node, item_keys: Sequence[str]) -> list[Entered]:
    """Let items of a loop in; those that were blocked."""
    assert loop.graph is not None
    keys = {"item_keys": list(item_keys), "rows": item_rows(loop)}
    rows = run(tx, "enter_items", run_id=run_id, sinks=loop.graph.sinks, **keys)
    return [Entered(row.step_key, row.fresh) for row in rows]


def waiting_in_items(tx: Connection, run_id: UUID, item_keys: Sequence[str]) -> list[Row[Any]]:
    """Steps of these items that wait, and how many of their edges are open and unmet."""
    return list(run(tx, "waiting_in_items", run_id=run_id, item_keys=list(item_keys)))


class ItemCount(NamedTuple):
    """An item's row after steps of it ended. `reason`: of its first failure; else, of the loop that stopped with steps
    of it."""

    open: int
    failed: int
    reason: str | None


def count_item(
    tx: Connection, run_id: UUID, item_key: str, *, sinks: int, failures: int, reason: str | None
) -> ItemCount | None:
    """Count ended sinks and unhandled failures on an item's row; None when it is not open."""
    row = one(tx, "count_item", run_id=run_id, item_key=item_key, sinks=sinks, failures=failures, reason=reason)
    return None if row is None else ItemCount(row.children_open, row.children_failed, row.reason)


def any_ran(tx: Connection, run_id: UUID, item_key: str) -> bool:
    """Whether a step of an item was not skipped."""
    row = one(tx, "any_ran", run_id=run_id, item_key=item_key)
    return row is not None and bool(row.ran)


def is_moving(tx: Connection, run_id: UUID, item_key: str) -> bool:
    """Whether an item does anything, or waits for something else than a back-off or its next poll."""
    row = one(tx, "is_moving", run_id=run_id, item_key=item_key)
    return row is not None and bool(row.moving)


def items(tx: Connection, run_id: UUID, item_keys: Sequence[str]) -> dict[str, tuple[JsonValue, int | None]]:
    """By the keys of these rows, their item and index."""
    rows = run(tx, "items_of", run_id=run_id, item_keys=list(item_keys))
    return {row.step_key: (row.item, row.loop_index) for row in rows}


def children(loop: Node) -> dict[str, Any]:
    """The parameters of the parts `opened` and `children`."""
    body = loop.body
    assert body is not None
    return {
        "loop_key": loop.key,
        "body_key": body.key,
        "position": loop.position,
        "type": body.definition.type,
        "task": body.task,
        "queue": body.queue,
        "priority": body.priority,
        "timeout": seconds(body.definition.timeout),
        "queue_timeout": seconds(body.definition.queue_timeout),
        "needs": list(body.needs),
        "let_in": loop.window,
    }


@dataclass(frozen=True, slots=True)
class LoopCount:
    """A loop's row after a child ended. `next` is one more than the index to let in: None without a window; -1 - n when
    it must be looked up among the children from index n on. `reason`: of a loop that stopped with one around it."""

    open: int
    failed: int
    next: int | None
    reason: str | None


def child_ended(tx: Connection, run_id: UUID, loop_key: str, *, failed: int) -> LoopCount | None:
    """Count an ended child; None when the loop is not open."""
    row = one(tx, "child_ended", run_id=run_id, loop_key=loop_key, ended=1, failed=failed)
    return None if row is None else LoopCount(row.children_open, row.children_failed, row.children_next, row.reason)


def let_in_one_more(tx: Connection, run_id: UUID, loop_key: str) -> int | None:
    """Move the window of a loop by one; as `LoopCount.next`."""
    row = one(tx, "let_in_one_more", run_id=run_id, loop_key=loop_key)
    return None if row is None else row.children_next


def waiting_children(tx: Connection, run_id: UUID, loop: Node, count: int, start: int = 0) -> list[str]:
    """The first children from index `start` on that a loop's window keeps out."""
    keys = {"loop_key": loop.key, "suffix": loop.child_suffix}
    rows = run(tx, "waiting_children", run_id=run_id, start=start, count=count, **keys)
    return [row.step_key for row in rows]


def failed_in_loop(tx: Connection, run_id: UUID, loop_key: str | None) -> int:
    """How many children of a loop have failed."""
    row = one(tx, "failed_in_loop", run_id=run_id, loop_key=loop_key)
    return 0 if row is None else int(row.children_failed)


def collect(tx: Connection, run_id: UUID, loop: Node, *, failed: bool) -> bool:
    """End the loop with the ordered list of its children's outputs, or outcomes; False when that is longer than
    OUTPUT_LIMIT."""
    keys = {"run_id": run_id, "loop_key": loop.key, "limit_bytes": OUTPUT_LIMIT}
    if not loop.collects_errors:
        return one(tx, "collect", **keys) is not None
    return one(tx, "collect_outcomes", **keys, asks=failed and loop.graph is not None) is not None


def failure(tx: Connection, run_id: UUID, step_key: str) -> dict[str, JsonValue]:
    """Why a step failed: step, type, message, fingerprint."""
    row = one(tx, "failure", run_id=run_id, step_key=step_key)
    assert row is not None
    return dict(row._mapping)


def first_failure(tx: Connection, run_id: UUID, loop_key: str) -> Row[Any] | None:
    """The failed child with the lowest index."""
    return one(tx, "first_failure", run_id=run_id, loop_key=loop_key)


def count_run(tx: Connection, run_id: UUID, *, sinks: int, failures: int, error: JsonValue) -> tuple[int, int]:
    """Open sinks and unhandled failures after counting."""
    error, fingerprint = told_apart(error)
    given = {"error": _json(error), "fingerprint": fingerprint}
    row = one(tx, "count_run", run_id=run_id, sinks=sinks, failures=failures, **given)
    assert row is not None
    return row.sinks_open, row.failures


_ENDS = {
    RunStatus.SUCCEEDED: RunEvent.SUCCEED,
    RunStatus.FAILED: RunEvent.FAIL,
    RunStatus.CANCELLED: RunEvent.CANCEL,
    RunStatus.TIMED_OUT: RunEvent.TIME_OUT,
}


def end_run(tx: Connection, run_id: UUID, status: RunStatus, error: JsonValue = None) -> Finished:
    """Move the run to a final state."""
    from_states = run_sources(_ENDS[status])
    row = one(tx, "end_run", run_id=run_id, status=status.value, error=_json(error), from_states=from_states)
    ends.note(tx, run_id)
    if row is None:
        return Finished(run_status=status)
    return Finished(run_status=status, run_took=row.took, untold=not row.parent_told)


def any_claimed(tx: Connection, run_id: UUID) -> bool:
    """Whether a handler of the run is still under a claim, or a run that it called is open."""
    row = one(tx, "any_claimed", run_id=run_id)
    return row is not None and bool(row.claimed)


def event(
    tx: Connection,
    run_id: UUID,
    type: str,
    step_key: str | None = None,
    attempt: int | None = None,
    facts: JsonValue = None,
) -> None:
    """Append to the run's audit."""
    run(tx, "event", run_id=run_id, type=type, step_key=step_key, attempt=attempt, facts=_json(facts))


def _json(value: JsonValue) -> str | None:
    return None if value is None else json.dumps(value)
