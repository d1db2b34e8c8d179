"""API keys over HTTP."""

from datetime import timedelta
from typing import Any

from orchestrator.client.groups.group import By
from orchestrator.client.groups.keys import KeyMade, KeyShown
from orchestrator.client.remote.groups.group import Group, expiry_text, key_holder, length_text
from orchestrator.client.remote.transport import part
from orchestrator.core.access import Grant
from orchestrator.engine.access.keys import NEVER, OVERLAP
from orchestrator.ledger.access import Expiry


class HttpKeys(Group):
    """As `Keys`."""

    def listed(self, *, ended: bool = False) -> list[KeyShown]:
        """As `Keys.listed`."""
        return self._client.listed(KeyShown, "/keys", {"ended": ended}, None)

    def create(self, name: str, grant: Grant, *, expires: Expiry = NEVER, by: By = None) -> KeyMade:
        """As `Keys.create`."""
        key_holder(by)
        new = {"name": name, "role": grant.role, "scopes": sorted(grant.scopes), "flows": sorted(grant.flows)}
        return self._client.send(KeyMade, "POST", "/keys", {**new, "expires": expiry_text(expires)})

    def rotate(
        self, key: str, *, overlap: timedelta = OVERLAP, expires: Expiry | None = None, by: By = None
    ) -> KeyMade:
        """As `Keys.rotate`."""
        key_holder(by)
        how = {"overlap": length_text(overlap), "expires": expiry_text(expires)}
        return self._client.send(KeyMade, "POST", f"/keys/{part(key)}/rotate", how)

    def revoke(self, key: str, *, reason: str | None = None, by: By = None) -> list[KeyShown]:
        """As `Keys.revoke`."""
        key_holder(by)
        done: dict[str, Any] = self._client.send(
            dict[str, Any], "POST", f"/keys/{part(key)}/revoke", {"reason": reason}
        )
        return self._client.made(list[KeyShown], done["items"])
