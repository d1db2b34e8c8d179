"""Claims: the lease and fence of a step."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, Row

from orchestrator.core.facts import Claimant, Lease, LeaseBeat, Renewal, UnknownVersion
from orchestrator.core.plan import TRIGGER, Node
from orchestrator.ledger.rows import hot, one, run


def claim(tx: Connection, run_id: UUID, step_key: str, number: int, by: Claimant) -> Any | None:
    """Take a dispatched step of a run of a version that the claimant accepts; None when there is nothing to take."""
    place = {"run_id": run_id, "step_key": step_key, "number": number}
    rows = hot(tx, "claim", **place, owner=by.owner, lease_for=by.lease, accepted=_accepted(by))
    return rows[0] if rows else None


def _accepted(by: Claimant) -> list[str] | None:
    return None if by.accepted is None else list(by.accepted)


def suppressed(tx: Connection, run_id: UUID, step_key: str, number: int, by: Claimant) -> UnknownVersion | None:
    """Count a message that found nothing to claim, unless it is one of another version: then that is the answer."""
    row = one(tx, "suppressed", run_id=run_id, step_key=step_key, number=number, accepted=_accepted(by))
    return None if row is None or row.accepted else UnknownVersion(row.manifest_hash)


def owned(tx: Connection, run_id: UUID, step_key: str, owner: str) -> Row[Any] | None:
    """The live claim of `owner` on the step."""
    return one(tx, "owned", run_id=run_id, step_key=step_key, owner=owner)


def as_lease(row: Any, run_id: UUID, step_key: str, owner: str, *, transactional: bool) -> Lease:
    """A row of `claim` or `owned` as a Lease."""
    known: dict[str, JsonValue] = dict(row.outputs or {})
    if row.trigger_body is not None:
        known[TRIGGER] = row.trigger_body
    return Lease(
        run_id=run_id,
        step_key=step_key,
        flow=row.flow,
        type=row.type,
        task=row.task,
        attempt=row.attempt,
        fence=row.version,
        owner=owner,
        manifest_hash=row.manifest_hash,
        queue=row.queue,
        priority=row.priority,
        expires_at=row.expires_at,
        stop_at=row.stop_at,
        transactional=transactional,
        trigger=row.trigger_type,
        queue_wait_s=row.queue_wait_s,
        trace=row.trace_context,
        index=row.loop_index,
        item=row.item,
        known=known,
    )


def following(row: Any, before: Lease, node: Node, output: JsonValue) -> Lease:
    """The lease on the next step that a finish took for the same owner."""
    return Lease(
        run_id=before.run_id,
        step_key=row.next_key,
        flow=before.flow,
        type=node.definition.type or "",
        task=node.task or "",
        attempt=row.next_attempt,
        fence=row.version,
        owner=before.owner,
        manifest_hash=before.manifest_hash,
        queue=row.queue,
        priority=row.priority,
        expires_at=row.expires_at,
        stop_at=row.stop_at,
        transactional=node.definition.transactional,
        trigger=before.trigger,
        trace=before.trace,
        index=row.loop_index,
        item=row.item,
        known=before.known if node.loop else _carried(before, row.next_key, output),
    )


def _carried(before: Lease, step_key: str, output: JsonValue) -> dict[str, JsonValue]:
    """What is known of that which the next step may name. No child reads another, no item reads another: carrying their
    outputs along would cost a long loop n x n."""
    known = {**before.known, before.step_key: output}
    if "." not in before.step_key:
        return known
    return {key: value for key, value in known.items() if step_key.startswith(_scope(key))}


def _scope(step_key: str) -> str:
    """What the keys of all that stands beside it, or inside of that, begin with."""
    item, dot, _ = step_key.rpartition(".")
    return item + dot


def needs(tx: Connection, run_id: UUID, step_key: str) -> list[str]:
    """Whose outputs the step was given when it opened."""
    row = one(tx, "needs", run_id=run_id, step_key=step_key)
    return [] if row is None else list(row.needs)


def trigger_body(tx: Connection, run_id: UUID) -> JsonValue:
    """What the run was started with."""
    row = one(tx, "trigger_body", run_id=run_id)
    return None if row is None else row.trigger_body


def renew(tx: Connection, beats: Sequence[LeaseBeat], lease: timedelta) -> list[Renewal]:
    """Prolong each claim that is still at its version."""
    rows = run(
        tx,
        "renew",
        run_ids=[beat.run_id for beat in beats],
        step_keys=[beat.step_key for beat in beats],
        versions=[beat.fence for beat in beats],
        progress=[beat.progress for beat in beats],
        lease=lease,
    )
    return [Renewal(row.run_id, row.step_key, row.version, alive=row.alive, cancel=row.halted) for row in rows]
