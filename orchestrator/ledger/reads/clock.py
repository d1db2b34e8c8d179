"""The ledger's clock."""

from datetime import datetime

from orchestrator.ledger.rows import one
from orchestrator.ledger.tx import Ledger


def now(ledger: Ledger) -> datetime:
    """The ledger's clock."""
    with ledger.auto() as tx:
        row = one(tx, "now")
    assert row is not None
    found: datetime = row.now
    return found
