"""Completions. Those on the hot path are one statement each, refused as a whole when the case is not theirs."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row

from orchestrator.core.facts import Chain, Dispatch, Lease, Success
from orchestrator.core.plan import Node, item_rows
from orchestrator.core.states import FINAL_RUN, StepEvent
from orchestrator.ledger import ends, outputs
from orchestrator.ledger.graph import children
from orchestrator.ledger.rows import dispatches, hot, one, run

NO_LEASE: Final = timedelta(0)
LAST_CHILD: Final = "last child"
"""Why `finish_child` refuses the last child of a loop."""
SHORT: Final = 256
"""Children of a loop that is opened and closed well within the time of any statement,"""
SHORT_BYTES: Final = 1_000_000
"""and, as they are stored, bytes of their outputs."""


def mid(tx: Connection, lease: Lease, successor: Node, done: Success) -> Any | None:
    """A step with one plain successor; None when nothing was written."""
    return _one(_recorded(tx, "finish_mid", lease, done, next_key=successor.key, **_chain(done.chain)))


def sink(tx: Connection, lease: Lease, done: Success) -> Any | None:
    """A step without successors; None when nothing was written."""
    row = _one(_recorded(tx, "finish_sink", lease, done))
    if row is not None and row.run_status is not None:
        ends.note(tx, lease.run_id)
    return row


def opening(tx: Connection, lease: Lease, loop: Node, done: Success) -> list[Any]:
    """A step with one successor, a loop over a list in its output: a row for each child that may go, the one that was
    claimed first; none when nothing was written."""
    assert loop.items is not None
    more = {"path": list(loop.items.path), "short": SHORT, **_chain(done.chain), **children(loop)}
    return _recorded(tx, "finish_open", lease, done, **more)


def child(tx: Connection, lease: Lease, node: Node, done: Success) -> Any | None:
    """A child of a loop that is not the last; None when nothing was written."""
    return _one(_recorded(tx, "finish_child", lease, done, loop_key=node.loop, body_key=node.key, **_chain(done.chain)))


def item(tx: Connection, lease: Lease, loop: Node, done: Success, result: str) -> Any | None:
    """The last step of an item that is not the last of its loop, and the item's output; None when nothing was
    written."""
    first = StepEvent.UNBLOCK if done.chain is None else StepEvent.CLAIM
    keys = {"loop_key": loop.key, "item_key": lease.step_key.rpartition(".")[0]}
    more = {"result": result, "rows": item_rows(loop, first), **_chain(done.chain)}
    del more["chain"]
    return _one(_recorded(tx, "finish_item", lease, done, **keys, **more))


def last(tx: Connection, lease: Lease, node: Node, successor: Node, done: Success) -> Any | None:
    """The last child of a loop with one plain successor; None when nothing was written."""
    keys = {"loop_key": node.loop, "body_key": node.key, "next_key": successor.key, "index": lease.index}
    limits = {"short": SHORT, "short_bytes": SHORT_BYTES}
    return _one(_recorded(tx, "finish_last", lease, done, **keys, **limits, **_chain(done.chain)))


def general(tx: Connection, lease: Lease, done: Success) -> Any | None:
    """Any step, by a caller who holds the run; None when nothing was written."""
    row = _one(_recorded(tx, "finish_general", lease, done))
    if row is not None and done.payload is not None:
        outputs.point(tx, lease, done.payload)
    return row


def _chain(chain: Chain | None) -> dict[str, Any]:
    return {"chain": chain is not None, "lease_for": chain.lease if chain else NO_LEASE}


def _one(rows: list[Any]) -> Any | None:
    return rows[0] if rows else None


def _recorded(tx: Connection, name: str, lease: Lease, done: Success, **parameters: Any) -> list[Any]:
    rows = hot(
        tx,
        name,
        run_id=lease.run_id,
        step_key=lease.step_key,
        version=lease.fence,
        owner=lease.owner,
        output=done.output if done.payload is None else None,
        inputs=done.inputs,
        **parameters,
    )
    return rows if rows[0].attempt is not None else []


def dispatches_of(rows: Sequence[Any], lease: Lease) -> tuple[Dispatch, ...]:
    """The dispatches of the steps that a statement made READY."""
    return tuple(
        Dispatch(lease.run_id, row.next_key, row.dispatch_no, row.task, row.queue, row.priority)
        for row in rows
        if row.next_status == "ready"
    )


def recorded(tx: Connection, lease: Lease) -> Row[Any] | None:
    """Status and fence of the lease's attempt, as committed; and whether the run has ended, which nobody may have been
    told."""
    row = one(tx, "recorded", run_id=lease.run_id, step_key=lease.step_key, attempt=lease.attempt)
    if row is not None and row.run_status in FINAL_RUN:
        ends.note(tx, lease.run_id)
    return row


def undelivered(tx: Connection, lease: Lease) -> tuple[Dispatch, ...]:
    """What the recording of the lease's attempt dispatched, if no message is known for it."""
    found = run(tx, "undelivered", run_id=lease.run_id, step_key=lease.step_key, attempt=lease.attempt)
    return dispatches(found.all())


def chained(tx: Connection, lease: Lease) -> list[str]:
    """The step that the recording of the lease's attempt claimed for the same owner; at most one."""
    rows = run(tx, "chained", run_id=lease.run_id, step_key=lease.step_key, attempt=lease.attempt, owner=lease.owner)
    return [row.step_key for row in rows]
