"""What people and programs did."""

from orchestrator.client.given import at_least_one
from orchestrator.client.groups.group import Group
from orchestrator.engine.access import audit
from orchestrator.engine.access.audit import ALL
from orchestrator.ledger.access import AuditFilter, AuditRow


class Audit(Group):
    """Who did what, to what, from where."""

    def listed(self, wanted: AuditFilter = ALL, *, limit: int = 50, before: int | None = None) -> list[AuditRow]:
        """A page of it, the newest first; `before` is the last id of the page before."""
        return self._client.call(audit.listed, wanted, limit=at_least_one(limit), before=before)
