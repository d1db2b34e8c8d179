"""What steps returned, wherever it is kept; and what the ledger knows of the payload store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection, Row

from orchestrator.core.facts import Lease
from orchestrator.core.payload import Payload
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.tx import Ledger


def of(ledger: Ledger, tx: Connection, run_id: UUID, step_keys: Sequence[str]) -> dict[str, JsonValue]:
    """Outputs by step key, as committed now.

    Raises:
        PayloadUnavailable, PayloadLost: one is in the payload store, and cannot be read there.
    """
    rows = run(tx, "outputs", run_id=run_id, step_keys=list(step_keys)).all()
    return {row.step_key: whole(ledger, row) for row in rows}


def whole(ledger: Ledger, row: Row[Any]) -> JsonValue:
    """The output of a row that has it, or says as `payload` where it is.

    Raises:
        PayloadUnavailable, PayloadLost: it is in the payload store, and cannot be read there.
    """
    found = row.payload
    if found is None:
        return cast(JsonValue, row.output)
    payload = Payload(UUID(str(found["store"])), str(found["reference"]), int(found["size"]), str(found["sha256"]))
    return ledger.values.get(payload, lambda: ledger.payloads.read(payload))


def marks(tx: Connection, run_id: UUID, step_keys: Sequence[str]) -> dict[str, str]:
    """By step key what is another after each change of the output."""
    return {row.step_key: row.mark for row in run(tx, "output_marks", run_id=run_id, step_keys=list(step_keys))}


def point(tx: Connection, lease: Lease, payload: Payload) -> None:
    """Say where the output is that the lease's attempt gave, which was recorded without it."""
    run(
        tx,
        "point_output",
        run_id=lease.run_id,
        step_key=lease.step_key,
        store=str(payload.store),
        reference=payload.reference,
        size=payload.size,
        sha256=payload.sha256,
    )


@dataclass(frozen=True, slots=True)
class Owned:
    """Whether a payload may be written: not if a step of another run reads it while that is held (`called`), nor if
    there are live workers without this store (`strangers`)."""

    called: bool
    strangers: int


def own(tx: Connection, run_id: UUID, store: UUID, worker_ttl: timedelta, *, in_output: bool) -> Owned | None:
    """Note that the run has payloads, if one may be written; None when there is no such run."""
    row = one(tx, "own_payloads", run_id=run_id, store=store, ttl=worker_ttl, in_output=in_output)
    return None if row is None else Owned(row.called, row.strangers)


def removable(tx: Connection, grace: timedelta, page: int) -> list[UUID]:
    """Runs whose payloads are nobody's any more."""
    return [row.owner_id for row in run(tx, "removable_payloads", grace=grace, page=page)]


def removed(tx: Connection, owner_id: UUID) -> None:
    """They are gone."""
    run(tx, "payloads_removed", owner_id=owner_id)


def claim_store(tx: Connection, id: UUID) -> bool:
    """Make that store the ledger's; False when it has one."""
    return one(tx, "claim_store", id=id) is not None


def store(tx: Connection) -> UUID | None:
    """The ledger's payload store."""
    row = one(tx, "ledgers_store")
    return None if row is None else row.id


def forget_store(tx: Connection) -> UUID | None:
    """The ledger has no payload store any more; which it had."""
    row = one(tx, "forget_store")
    return None if row is None else row.id
