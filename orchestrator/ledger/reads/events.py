"""What happened to a run, or to a flow itself."""

from uuid import UUID

from orchestrator.core.schedule_ids import flow_id
from orchestrator.ledger import definitions
from orchestrator.ledger.reads.rows import EventRow
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


def of_run(ledger: Ledger, run_id: UUID, after: int = 0, limit: int = 1000) -> list[EventRow]:
    """The audit of a run, in order, from the event after `after`; with what was not kept because it can be derived."""
    with ledger.auto() as tx:
        rows = run(tx, "whole_history" if ledger.essential else "events", run_id=run_id, after=after, limit=limit)
        return [EventRow(row.id, row.at, row.type, row.step_key, row.attempt, row.facts) for row in rows]


def of_flow(ledger: Ledger, flow: str, after: int = 0, limit: int = 1000) -> list[EventRow]:
    """What happened to a flow itself: refused starts, switches. In order, from the event after `after`.

    Raises:
        FlowNotFound: no such flow is registered.
    """
    found = of_run(ledger, flow_id(flow), after, limit)
    if not found:
        with ledger.auto() as tx:
            if flow not in definitions.names(tx):
                raise definitions.unknown_flow(tx, flow)
    return found
