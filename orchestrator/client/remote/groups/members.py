"""The groups that a client over HTTP has."""

from typing import TYPE_CHECKING, cast

from orchestrator.client.remote.groups.audit import HttpAudit
from orchestrator.client.remote.groups.flows import HttpFlows
from orchestrator.client.remote.groups.keys import HttpKeys
from orchestrator.client.remote.groups.users import HttpUsers
from orchestrator.client.remote.groups.webhooks import HttpWebhooks
from orchestrator.client.remote.groups.workers import HttpWorkers

if TYPE_CHECKING:
    from orchestrator.client.remote.client import HttpClient


class HttpGroups:
    """As `Groups`."""

    @property
    def audit(self) -> HttpAudit:
        """What people and programs did."""
        return HttpAudit(self._itself)

    @property
    def flows(self) -> HttpFlows:
        """What is registered."""
        return HttpFlows(self._itself)

    @property
    def keys(self) -> HttpKeys:
        """API keys."""
        return HttpKeys(self._itself)

    @property
    def users(self) -> HttpUsers:
        """Who signs in."""
        return HttpUsers(self._itself)

    @property
    def webhooks(self) -> HttpWebhooks:
        """What publishers call, and what came."""
        return HttpWebhooks(self._itself)

    @property
    def workers(self) -> HttpWorkers:
        """The processes that serve flows."""
        return HttpWorkers(self._itself)

    @property
    def _itself(self) -> "HttpClient":
        return cast("HttpClient", self)
