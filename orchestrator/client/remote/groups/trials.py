"""What was tried and found out, over HTTP."""

from collections.abc import Sequence

from orchestrator.client.groups.group import By
from orchestrator.client.remote.access import nobody_else
from orchestrator.client.remote.groups.group import Group, moment_text
from orchestrator.core.evidence import Kind
from orchestrator.engine.smoke import Canary
from orchestrator.ledger.evidence import Evidence, Tried


class HttpTrials(Group):
    """As `Trials`."""

    def last(self, kind: Kind | None = None, *, limit: int = 1) -> list[Evidence]:
        """As `Trials.last`."""
        return self._client.listed(Evidence, "/evidence", {"kind": kind, "last": limit}, None)

    def record(self, tried: Tried, *, by: By = None) -> Evidence:
        """As `Trials.record`."""
        nobody_else(by)
        told = {"kind": tried.kind, "ok": tried.ok, "facts": dict(tried.facts), "at": moment_text(tried.at)}
        return self._client.transport.post(Evidence, "/evidence", told)

    def smoke(self, queues: Sequence[str] = (), *, by: By = None) -> list[Canary]:
        """As `Trials.smoke`."""
        nobody_else(by)
        return self._client.transport.post(list[Canary], "/smoke", {"queues": list(queues)})
