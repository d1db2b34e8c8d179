"""Workers over HTTP."""

from orchestrator.client.groups.workers import Queue
from orchestrator.client.remote.groups.group import Group
from orchestrator.core.releases import Releases
from orchestrator.core.scaling import Scaling
from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow


class HttpWorkers(Group):
    """As `Workers`."""

    def listed(self) -> list[WorkerRow]:
        """As `Workers.listed`."""
        return self._client.listed(WorkerRow, "/workers", {}, None)

    def unserved(self) -> list[UnservedRow]:
        """As `Workers.unserved`."""
        return self._client.listed(UnservedRow, "/unserved", {}, None)

    def releases(self) -> Releases:
        """As `Workers.releases`."""
        return self._client.transport.get(Releases, "/releases")

    def queues(self) -> list[Queue]:
        """As `Workers.queues`."""
        return self._client.listed(Queue, "/queues", {}, None)

    def scaling(self, group: str = "default") -> Scaling:
        """As `Workers.scaling`; the API's settings name the groups."""
        return self._client.transport.get(Scaling, "/scaling", {"group": group})
