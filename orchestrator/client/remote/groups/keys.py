"""API keys over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.client.groups.group import By
from orchestrator.client.groups.keys import KeyMade, KeyShown
from orchestrator.client.remote.access import nobody_else
from orchestrator.client.remote.groups.group import Group, expiry_text, length_text
from orchestrator.client.remote.transport import part
from orchestrator.core.access import Grant
from orchestrator.engine.access.keys import NEVER, OVERLAP
from orchestrator.ledger.access import Expiry


@dataclass(frozen=True, slots=True)
class Ended:
    """What a revocation answers."""

    items: Sequence[KeyShown]


class HttpKeys(Group):
    """As `Keys`."""

    def listed(self, *, ended: bool = False) -> list[KeyShown]:
        """As `Keys.listed`."""
        return self._client.listed(KeyShown, "/keys", {"ended": ended}, None)

    def create(self, name: str, grant: Grant, *, expires: Expiry = NEVER, by: By = None) -> KeyMade:
        """As `Keys.create`."""
        nobody_else(by)
        new = {"name": name, "role": grant.role, "scopes": sorted(grant.scopes), "flows": sorted(grant.flows)}
        return self._client.transport.secret(KeyMade, "/keys", {**new, "expires": expiry_text(expires)})

    def rotate(
        self, key: str, *, overlap: timedelta = OVERLAP, expires: Expiry | None = None, by: By = None
    ) -> KeyMade:
        """As `Keys.rotate`."""
        nobody_else(by)
        how = {"overlap": length_text(overlap), "expires": expiry_text(expires)}
        return self._client.transport.secret(KeyMade, f"/keys/{part(key)}/rotate", how)

    def revoke(self, key: str, *, reason: str | None = None, by: By = None) -> list[KeyShown]:
        """As `Keys.revoke`."""
        nobody_else(by)
        ended = self._client.transport.post(Ended, f"/keys/{part(key)}/revoke", {"reason": reason})
        return list(ended.items)
