"""What was tried and found out, and the smoke test."""

from collections.abc import Sequence

from orchestrator.client.given import whoami
from orchestrator.client.groups.group import By, Group, actor, name_of
from orchestrator.core.evidence import Kind
from orchestrator.engine import evidence, smoke
from orchestrator.engine.smoke import Canary
from orchestrator.errors import UsageError
from orchestrator.ledger import reads
from orchestrator.ledger.evidence import Evidence, Tried


class Trials(Group):
    """Backups, drills, smoke tests: when they were, and how they went."""

    def last(self, kind: Kind | None = None, *, limit: int = 1) -> list[Evidence]:
        """The newest of each kind, or of one, at most that many of it."""
        return self._client.call(evidence.last, kind, limit)

    def record(self, tried: Tried, *, by: By = None) -> Evidence:
        """Record what was tried."""
        return self._client.call_once(evidence.keep, tried, actor(by))

    def smoke(self, queues: Sequence[str] = (), *, by: By = None) -> list[Canary]:
        """Start a run that does nothing through each of these queues, or of those that live workers serve.

        Raises:
            UsageError: no live worker serves one of them, or there is none.
        """
        rows = self._client.call(reads.workers.every, self._client.settings.worker_ttl)
        served = {queue for row in rows if row.live for queue in row.queues}
        missing = sorted(set(queues) - served)
        if missing or not served:
            what = f"takes from queue {missing[0]!r}" if missing else "is there"
            known = f" Served are {', '.join(sorted(served))}." if served else ""
            raise UsageError(f"No live worker {what}.{known} Fix: start one: `orchestrator worker --flows MODULE`.")
        whose = whoami(None if by is None else name_of(by))
        canaries, dispatches = self._client.call_once(smoke.begin, sorted(set(queues) or served), whose)
        self._client.publish(dispatches)
        return canaries
