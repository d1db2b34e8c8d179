"""The processes that serve flows, and the queues they take from."""

from dataclasses import asdict, dataclass

from orchestrator.client.groups.group import Group
from orchestrator.core.releases import Releases, judged
from orchestrator.ledger import reads, releases
from orchestrator.ledger.reads.queues import QueueRow
from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow
from orchestrator.servers.depths import depths


@dataclass(frozen=True, slots=True)
class Queue(QueueRow):
    """`messages`: how many lie in the broker for it, hints of what is ready; None: that does not answer."""

    messages: int | None


class Workers(Group):
    """Worker processes."""

    def listed(self) -> list[WorkerRow]:
        """Those that the ledger knows; `live` ones were seen lately."""
        return self._client.call(reads.workers.every, self._client.settings.worker_ttl)

    def unserved(self) -> list[UnservedRow]:
        """Tasks whose ready steps no live worker takes."""
        return list(self._client.call(reads.workers.unserved, self._client.settings.worker_ttl))

    def releases(self) -> Releases:
        """The releases that live workers are of, and what needs them."""
        wanted = self._client.call(releases.wanted)
        return judged([row for row in self.listed() if row.live and not row.is_keeper], wanted)

    def queues(self) -> list[Queue]:
        """Queues that have steps or workers. While the broker does not answer, this does within some seconds."""
        rows = self._client.call(reads.queues.every, self._client.settings.worker_ttl)
        found = depths(self._client.settings, [row.queue for row in rows])
        return [Queue(**asdict(row), messages=None if found is None else found[row.queue]) for row in rows]
