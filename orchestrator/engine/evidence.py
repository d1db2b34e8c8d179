"""Record what was tried and found out, and tell it."""

from sqlalchemy import Connection

from orchestrator.core.access import Act, Actor
from orchestrator.core.evidence import Kind
from orchestrator.ledger import access, evidence
from orchestrator.ledger.evidence import Evidence, Tried
from orchestrator.ledger.tx import Ledger


def keep(ledger: Ledger, tried: Tried, by: Actor) -> Evidence:
    """Record it, and in the audit that it was."""

    def work(tx: Connection) -> Evidence:
        kept = evidence.keep(tx, tried, by.name)
        became = {"ok": kept.ok, "at": kept.at.isoformat()}
        access.audit(tx, by, Act("evidence.record", f"evidence/{kept.kind}", became=became))
        return kept

    return ledger.retry(work)


def last(ledger: Ledger, kind: Kind | None = None, most: int = 1) -> list[Evidence]:
    """The newest of each kind, or of one, at most that many of it."""
    with ledger.auto() as tx:
        return evidence.last(tx, kind, most)
