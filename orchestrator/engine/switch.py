"""Enable and disable flows. Runs in flight go on."""

from sqlalchemy import Connection
from uuid_utils.compat import uuid7

from orchestrator.ledger import definitions
from orchestrator.ledger.tx import Ledger


def disable(ledger: Ledger, flow: str, by: str, reason: str | None = None) -> None:
    """Every trigger of the flow is refused from now on.

    Raises:
        FlowNotFound: no such flow.
    """
    _switch(ledger, flow, False, by, reason)


def enable(ledger: Ledger, flow: str, by: str) -> None:
    """Triggers are accepted again.

    Raises:
        FlowNotFound: no such flow.
    """
    _switch(ledger, flow, True, by, None)


def _switch(ledger: Ledger, flow: str, enabled: bool, by: str, reason: str | None) -> None:
    def work(tx: Connection) -> None:
        if not definitions.switch(tx, flow, enabled=enabled, by=by, reason=reason, event_id=uuid7()):
            raise definitions.unknown_flow(tx, flow)

    ledger.retry(work)
