"""Checks of the payload store."""

from orchestrator.core.wording import counted
from orchestrator.doctor.findings import Finding, failed, passed, warned
from orchestrator.doctor.ground import Ground
from orchestrator.errors import PayloadUnavailable
from orchestrator.ledger import outputs, reads
from orchestrator.settings import variable


def payload_store(ground: Ground) -> list[Finding]:
    """Whoever has a store sees the one of the ledger, and all live workers have it."""
    if ground.ledger is None or not ground.is_migrated:
        return []
    name = variable("payload_store")
    with ground.ledger.auto() as tx:
        expected = outputs.store(tx)
    store = ground.settings.payload_store
    if store is None:
        if expected is None:
            return []
        fix = f"set {name} here as the workers have it."
        return [warned("payload store", f"outputs may be in store {expected}, and {name} is not set here", fix)]
    try:
        found = ground.settings.payloads().id
    except PayloadUnavailable as exc:
        if expected is None:
            fix = "start a worker: the first one makes it the ledger's."
            return [warned("payload store", f"{store} is not in use yet", fix)]
        problem, _, fix = exc.message.partition(" Fix: ")
        return [failed("payload store", f"{problem} The ledger's has the id {expected}.", fix)]
    if found != expected:
        fix = f"set {name} as the workers have it."
        return [failed("payload store", f"{store} is store {found}, and the ledger's is {expected}", fix)]
    live = [row for row in reads.workers.every(ground.ledger, ground.settings.worker_ttl) if row.live]
    others = [row.id for row in live if row.payload_store != found]
    if others:
        what = f"{counted(len(others), 'live worker')} without this store, so nothing goes there: {', '.join(others)}"
        return [warned("payload store", what, f"set {name} for them too, and restart them.")]
    return [passed("payload store", f"{store} is the ledger's")]


CHECKS = (payload_store,)
