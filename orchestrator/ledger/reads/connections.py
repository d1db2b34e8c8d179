"""Sessions of PostgreSQL."""

from dataclasses import dataclass

from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Sessions:
    """`allowed`: those that are kept for superusers (`reserved`) are not among them. `open`: of all databases; `here`:
    of this one; `busy`: of those, in the middle of a transaction or statement."""

    limit: int
    reserved: int
    allowed: int
    open: int
    here: int
    busy: int


def used(ledger: Ledger) -> Sessions:
    """What the server allows, and what is open now."""
    with ledger.auto() as tx:
        return Sessions(**run(tx, "server_sessions").one()._mapping)
