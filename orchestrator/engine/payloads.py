"""The payload store and the ledger: which one it is, what may be written there, and what is removed."""

from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import Connection

from orchestrator.core.facts import Lease
from orchestrator.core.payload import reference
from orchestrator.core.wording import counted
from orchestrator.engine.faults import fp
from orchestrator.errors import LeaseLost, PayloadUnavailable
from orchestrator.ledger import outputs
from orchestrator.ledger.tx import Ledger

PAGE: Final = 100
GRACE: Final = timedelta(hours=1)
"""A worker may have been writing when its run was removed, and may have slept."""


def begin(ledger: Ledger) -> UUID | None:
    """The id of this process's store, if it has one. The first one of a ledger gets a mark; all others must find it.

    Raises:
        PayloadUnavailable: it cannot be reached, or is not the one of this ledger.
    """
    payloads = ledger.payloads
    if not payloads:
        return None
    found = payloads.mark()
    id = found or uuid4()

    def claim(tx: Connection) -> UUID | None:
        if outputs.claim_store(tx, id) and found is None:
            payloads.put_mark(id)
        return outputs.store(tx)

    expected = ledger.retry(claim)
    if payloads.mark() != expected:
        assert payloads.url is not None
        raise PayloadUnavailable(
            f"The payload store {payloads.url.text} is not the one of this ledger, which has the id {expected}: "
            f"{'it has no mark' if found is None else f'its mark says {found}'}. Fix: mount that one on this host; or "
            "copy all that it has, its mark too. If it is lost with what was in it: `orchestrator db forget-store`."
        )
    return expected


def may_write(ledger: Ledger, lease: Lease, worker_ttl: timedelta) -> bool:
    """Whether the output of this step may be written to the store, under `reference_of`: then it is noted that its run
    has something there.

    Raises:
        LeaseLost: its run is gone.
        PayloadUnavailable: not everybody could read it there.
    """
    plan = ledger.plan(lease.manifest_hash)
    if lease.step_key not in plan.offloadable:
        return False
    in_output, store = lease.step_key in plan.read_by_output, ledger.payloads.id
    owned = ledger.once(lambda tx: outputs.own(tx, lease.run_id, store, worker_ttl, in_output=in_output))
    if owned is None:
        raise LeaseLost(f"Run {lease.run_id} was removed. Fix: drop this result.", run_id=str(lease.run_id))
    if owned.strangers:
        raise PayloadUnavailable(
            f"{counted(owned.strangers, 'live worker')} without payload store {store}. Fix: set "
            "ORCHESTRATOR_PAYLOAD_STORE for every worker; `orchestrator doctor` names those that miss it."
        )
    fp("payload.owned")
    return not owned.called


def reference_of(lease: Lease) -> str:
    """The name of what the lease's attempt returns."""
    return reference(lease.run_id, lease.step_key, lease.fence)


def sweep(ledger: Ledger, grace: timedelta = GRACE, page: int = PAGE) -> int:
    """Remove the payloads of a page of runs that were removed; how many runs'.

    Raises:
        PayloadUnavailable: the store cannot be reached; the rest is removed later.
    """
    found = ledger.retry(lambda tx: outputs.removable(tx, grace, page))
    for owner in found:
        ledger.payloads.remove(owner)
        ledger.once(lambda tx, owner=owner: outputs.removed(tx, owner))  # type: ignore[misc]
    return len(found)


def forget_store(ledger: Ledger) -> UUID | None:
    """The next worker that starts makes its store the ledger's. What was in the one before cannot be read any more;
    which that was."""
    return ledger.retry(outputs.forget_store)
