"""The groups that a client over HTTP has."""

from orchestrator.client.remote.access import HttpAccess
from orchestrator.client.remote.groups.audit import HttpAudit
from orchestrator.client.remote.groups.flows import HttpFlows
from orchestrator.client.remote.groups.keys import HttpKeys
from orchestrator.client.remote.groups.notifications import HttpNotifications
from orchestrator.client.remote.groups.subscriptions import HttpSubscriptions
from orchestrator.client.remote.groups.trials import HttpTrials
from orchestrator.client.remote.groups.users import HttpUsers
from orchestrator.client.remote.groups.webhooks import HttpWebhooks
from orchestrator.client.remote.groups.workers import HttpWorkers


class HttpGroups(HttpAccess):
    """As `Groups`."""

    @property
    def audit(self) -> HttpAudit:
        """What people and programs did."""
        return HttpAudit(self)

    @property
    def flows(self) -> HttpFlows:
        """What is registered."""
        return HttpFlows(self)

    @property
    def keys(self) -> HttpKeys:
        """API keys."""
        return HttpKeys(self)

    @property
    def notifications(self) -> HttpNotifications:
        """What subscriptions are told."""
        return HttpNotifications(self)

    @property
    def subscriptions(self) -> HttpSubscriptions:
        """Who is told what."""
        return HttpSubscriptions(self)

    @property
    def trials(self) -> HttpTrials:
        """As `Groups.trials`."""
        return HttpTrials(self)

    @property
    def users(self) -> HttpUsers:
        """Who signs in."""
        return HttpUsers(self)

    @property
    def webhooks(self) -> HttpWebhooks:
        """What publishers call, and what came."""
        return HttpWebhooks(self)

    @property
    def workers(self) -> HttpWorkers:
        """The processes that serve flows."""
        return HttpWorkers(self)
