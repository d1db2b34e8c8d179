"""Statements for signals and what waits for them. The caller holds the run row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, Row

from orchestrator.core.plan import seconds
from orchestrator.core.signals import Awaited, Delivery, Signal
from orchestrator.core.states import StepEvent, sources
from orchestrator.ledger.rows import one, run


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that opens: its step, and what its expressions gave. `until`: a time that the manifest or an output
    names."""

    step_key: str
    awaited: Awaited
    key: str
    until: datetime | None = None
    title: str | None = None
    assignee: str | None = None
    shown: JsonValue = None


class Sent(NamedTuple):
    """A signal as it was stored."""

    digest: str
    kept: bool
    sent_at: datetime
    expires_at: datetime | None
    consumed_by: str | None
    consumed_at: datetime | None

    def again(self, id: str) -> Delivery:
        """What whoever sends it once more is answered."""
        return Delivery(not self.kept, self.kept, True, id, self.sent_at, self.consumed_by, self.expires_at)


class Oldest(NamedTuple):
    """The step that has waited longest; `over`: longer than it may."""

    step_key: str
    over: bool
    waited_s: float


def park(tx: Connection, run_id: UUID, wait: Wait) -> None:
    """BLOCKED to WAITING, until the wait's time is over."""
    approval = wait.awaited.approval
    run(
        tx,
        "park_signal",
        run_id=run_id,
        step_key=wait.step_key,
        signal=wait.awaited.name,
        key=wait.key,
        kind="signal" if approval is None else "approval",
        timeout=seconds(wait.awaited.timeout),
        until=wait.until,
        title=wait.title,
        assignee=wait.assignee,
        shown=None if approval is None else json.dumps(wait.shown),
        from_states=sources(StepEvent.PARK),
    )


def kept(tx: Connection, run_id: UUID, name: str, key: str) -> str | None:
    """The id of the oldest signal that was kept for such a wait."""
    row = one(tx, "kept_signal", run_id=run_id, name=name, key=key)
    return None if row is None else str(row.id)


def take(tx: Connection, run_id: UUID, step_key: str, wait: Awaited, id: str) -> datetime | None:
    """The step takes the signal and succeeds; None when it cannot be taken any more."""
    states = sources(StepEvent.SUCCEED)
    approval = wait.approval is not None
    row = one(
        tx,
        "take_signal",
        run_id=run_id,
        step_key=step_key,
        name=wait.name,
        id=id,
        approval=approval,
        from_states=states,
    )
    return None if row is None else row.consumed_at


def add(tx: Connection, run_id: UUID, id: str, signal: Signal, digest: str) -> None:
    """A signal that a step is to take now."""
    run(tx, "add_signal", **_values(run_id, id, signal, digest))


def keep(tx: Connection, run_id: UUID, id: str, signal: Signal, digest: str) -> Delivery:
    """A signal that nothing waits for now."""
    row = one(tx, "keep_signal", ttl=seconds(signal.ttl), **_values(run_id, id, signal, digest))
    assert row is not None
    return Delivery(False, True, False, id, row.sent_at, expires_at=row.expires_at)


def _values(run_id: UUID, id: str, signal: Signal, digest: str) -> dict[str, Any]:
    given = {"name": signal.name, "key": signal.key, "payload": signal.payload, "by": signal.by}
    return {"run_id": run_id, "id": id, "digest": digest, **given}


def sent(tx: Connection, run_id: UUID, name: str, id: str) -> Sent | None:
    """The signal of that id."""
    row = one(tx, "sent_signal", run_id=run_id, name=name, id=id)
    return None if row is None else Sent(*tuple(row))


def oldest(tx: Connection, run_id: UUID, name: str, key: str) -> Oldest | None:
    """Who is served next."""
    row = one(tx, "oldest_wait", run_id=run_id, name=name, key=key)
    return None if row is None else Oldest(*tuple(row))


def last(tx: Connection, run_id: UUID, name: str, key: str) -> Row[Any] | None:
    """The wait of that name and key that ended last."""
    return one(tx, "last_wait", run_id=run_id, name=name, key=key)


def open_keys(tx: Connection, run_id: UUID, name: str, limit: int) -> list[str]:
    """Keys that are waited for now, `limit` at most."""
    return [row.key for row in run(tx, "open_keys", run_id=run_id, name=name, limit=limit)]


def untaken(tx: Connection, run_id: UUID, limit: int) -> list[str]:
    """What a run keeps that no step has taken, such as `2 of paid with key o-17`."""
    rows = run(tx, "kept_signals", run_id=run_id, limit=limit)
    return [f"{row.found} of {row.name}" + (f" with key {row.key}" if row.key else "") for row in rows]


def count_kept(tx: Connection, run_id: UUID, limit: int) -> int:
    """How many the run keeps; `limit` stands for that many or more."""
    row = one(tx, "count_kept", run_id=run_id, limit=limit)
    return 0 if row is None else int(row.kept)


def close(tx: Connection, run_id: UUID, step_key: str) -> None:
    """The wait is over, and took nothing."""
    run(tx, "close_wait", run_id=run_id, step_key=step_key)


def take_default(tx: Connection, run_id: UUID, step_key: str, output: JsonValue) -> None:
    """The wait is over, and its step succeeds all the same."""
    states = sources(StepEvent.SUCCEED)
    run(tx, "default_taken", run_id=run_id, step_key=step_key, output=json.dumps(output), from_states=states)


def sender(tx: Connection, run_id: UUID, step_key: str) -> str | None:
    """Who sent the signal that the step took; None when it took none, or nobody said."""
    row = of_step(tx, run_id, step_key)
    return None if row is None else row.delivered_by


def of_step(tx: Connection, run_id: UUID, step_key: str) -> Row[Any] | None:
    """What the step waits for, or waited for."""
    return one(tx, "wait_of", run_id=run_id, step_key=step_key)


def open_approvals(
    tx: Connection, assignee: str | None, after: tuple[UUID, str] | None, limit: int
) -> Sequence[Row[Any]]:
    """A page of the answers that are waited for, the oldest first, from the one after `after`."""
    run_id, step = after or (None, None)
    return run(tx, "open_approvals", assignee=assignee, run=run_id, step=step, limit=limit).all()


def approval(tx: Connection, run_id: UUID, step_key: str) -> Row[Any] | None:
    """One of them, open or not."""
    return one(tx, "approval", run_id=run_id, step_key=step_key)
