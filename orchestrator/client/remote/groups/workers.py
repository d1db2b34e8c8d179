"""Workers over HTTP."""

from typing import Any

from orchestrator.client.groups.group import By
from orchestrator.client.groups.workers import Queue
from orchestrator.client.remote.access import nobody_else
from orchestrator.client.remote.groups.group import Group
from orchestrator.client.remote.transport import made
from orchestrator.core.releases import Rollout
from orchestrator.core.scaling import Scaling
from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow


class HttpWorkers(Group):
    """As `Workers`."""

    def listed(self) -> list[WorkerRow]:
        """As `Workers.listed`."""
        return self._client.listed(WorkerRow, "/workers", {}, None)

    def drain(self, target: str, *, undo: bool = False, by: By = None) -> list[WorkerRow]:
        """As `Workers.drain`."""
        nobody_else(by)
        what = {"target": target, "undo": undo}
        found: dict[str, Any] = self._client.transport.post(dict[str, Any], "/workers/drain", what)
        return [made(WorkerRow, row) for row in found["items"]]

    def unserved(self) -> list[UnservedRow]:
        """As `Workers.unserved`."""
        return self._client.listed(UnservedRow, "/unserved", {}, None)

    def releases(self) -> Rollout:
        """As `Workers.releases`."""
        return self._client.transport.get(Rollout, "/releases")

    def queues(self) -> list[Queue]:
        """As `Workers.queues`."""
        return self._client.listed(Queue, "/queues", {}, None)

    def scaling(self, group: str = "default") -> Scaling:
        """As `Workers.scaling`; the API's settings name the groups."""
        return self._client.transport.get(Scaling, "/scaling", {"group": group})
