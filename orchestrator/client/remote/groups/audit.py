"""The audit over HTTP."""

from dataclasses import asdict

from orchestrator.client.given import at_least_one
from orchestrator.client.remote.groups.group import Group, moment_text
from orchestrator.engine.access.audit import ALL
from orchestrator.ledger.access import AuditFilter, AuditRow


class HttpAudit(Group):
    """As `Audit`."""

    def listed(self, wanted: AuditFilter = ALL, *, limit: int = 50, before: int | None = None) -> list[AuditRow]:
        """As `Audit.listed`."""
        moments = {"since": moment_text(wanted.since), "until": moment_text(wanted.until)}
        return self._client.listed(
            AuditRow, "/audit", {**asdict(wanted), **moments, "before": before}, at_least_one(limit)
        )
