"""The audit: what people and programs did that others may ask about later."""

from datetime import datetime
from typing import Final

from orchestrator.core.access import Act, Actor
from orchestrator.ledger import access
from orchestrator.ledger.access import AuditFilter, AuditRow
from orchestrator.ledger.tx import Ledger

ALL: Final = AuditFilter()
PAGE: Final = 1000


def listed(ledger: Ledger, wanted: AuditFilter = ALL, *, limit: int = 50, before: int | None = None) -> list[AuditRow]:
    """The newest first; `before` is the last id of the page before."""
    with ledger.tx() as tx:
        return access.audited(tx, wanted, limit=limit, before=before)


def keep(ledger: Ledger, actor: Actor, act: Act) -> None:
    """Keep what was done in another commit. What changes access is kept in the commit that does it."""
    ledger.once(lambda tx: access.audit(tx, actor, act))


def purge(ledger: Ledger, until: datetime, actor: Actor, page: int = PAGE) -> int:
    """Forget what was done before a time; how many rows. Only the owner of the schema may: the role of the running
    processes has no right to. That it was done is kept."""
    gone = 0
    while True:
        dropped = ledger.retry(lambda tx: access.drop_audit(tx, until, page))
        gone += dropped
        if dropped < page:
            break
    keep(ledger, actor, Act("audit.purge", "audit", was={"until": until.isoformat(), "rows": gone}))
    return gone
