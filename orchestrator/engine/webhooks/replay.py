"""Replay a delivery that was refused: through the gates again, as they are now, at the time that it came."""

from dataclasses import replace
from uuid import UUID

from orchestrator.engine.webhooks.arrival import Arrived, Received
from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
from orchestrator.engine.webhooks.keeping import unpacked
from orchestrator.engine.webhooks.receive import find, take
from orchestrator.errors import Conflict, WebhookNotFound
from orchestrator.ledger import webhooks
from orchestrator.ledger.tx import Ledger


def replay(ledger: Ledger, keeper: Gatekeeper, id: UUID) -> Received:
    """Take a delivery that was refused once more: its secret is known now, or its flow takes what it says. Its time is
    that at which it came; rates do not count it. One that was accepted since, by whomever, starts nothing.

    Raises:
        WebhookNotFound: there is no such delivery, or its webhook is gone.
        Conflict: it was accepted, or replayed already.
    """
    with ledger.auto() as tx:
        kept = webhooks.raw(tx, id)
    if kept is None:
        raise WebhookNotFound(f"There is no delivery {id}. Fix: see `orchestrator webhook recent`.", id=str(id))
    if kept.raw is None:
        why = "was replayed already" if kept.replayed_at is not None else "was not refused"
        if kept.count > 1:
            why = f"stands for {kept.count} of a flood, of which none was kept"
        raise Conflict(f"The delivery {id} {why}. Fix: see `orchestrator webhook recent --refused`.")
    row, door = find(ledger, keeper, kept.slug)
    arrived = Arrived(ledger, keeper, row, door, unpacked(kept.raw), kept.received_at)
    return take(replace(arrived, replay_of=id))
