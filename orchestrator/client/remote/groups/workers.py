"""Workers over HTTP."""

from orchestrator.client.remote.groups.group import Group
from orchestrator.ledger.reads.rows import WorkerRow


class HttpWorkers(Group):
    """As `Workers`."""

    def listed(self) -> list[WorkerRow]:
        """As `Workers.listed`."""
        return self._client.listed(WorkerRow, "/workers", {}, None)
