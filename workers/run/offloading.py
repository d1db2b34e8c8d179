"""A long result goes to the payload store before its end is recorded; whatever is in the way of that, it stays in the
ledger."""

from orchestrator.engine import payloads
from orchestrator.engine.faults import fp
from orchestrator.errors import PayloadUnavailable
from orchestrator.observe.logs import KEPT_INSIDE, about, log
from orchestrator.workers.run.attempt import Attempt
from orchestrator.workers.run.outage import retry_through_outage


def offload(attempt: Attempt) -> None:
    """
    Raises:
        LeaseLost: the run is gone.
        GaveUp: the ledger stayed away.
    """
    store = attempt.ledger.payloads
    if not store or len(attempt.output) <= store.threshold // 4:  # a character is four bytes at most
        return
    data = attempt.output.encode()
    if len(data) <= store.threshold:
        return
    lease, ttl = attempt.lease, attempt.worker.settings.worker_ttl
    try:
        if retry_through_outage(
            attempt.outage(2), "store a result", lambda: payloads.may_write(attempt.ledger, lease, ttl)
        ):
            attempt.payload = store.write(payloads.reference_of(lease), data)
            fp("payload.written")
    except PayloadUnavailable as exc:
        log.warning("payload.kept_inside", extra=about(lease, KEPT_INSIDE, bytes=len(data), reason=exc.message))
