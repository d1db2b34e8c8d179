"""The processes that serve flows."""

from orchestrator.client.groups.group import Group
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow


class Workers(Group):
    """Worker processes."""

    def listed(self) -> list[WorkerRow]:
        """Those that the ledger knows; `live` ones were seen lately."""
        return self._client.call(reads.workers.every, self._client.settings.worker_ttl)

    def unserved(self) -> list[UnservedRow]:
        """Tasks whose ready steps no live worker takes."""
        return list(self._client.call(reads.workers.unserved, self._client.settings.worker_ttl))
