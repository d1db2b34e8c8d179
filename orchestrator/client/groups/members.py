"""The groups that a client has."""

from orchestrator.client.access import Access
from orchestrator.client.groups.audit import Audit
from orchestrator.client.groups.flows import Flows
from orchestrator.client.groups.keys import Keys
from orchestrator.client.groups.notifications import Notifications
from orchestrator.client.groups.subscriptions import Subscriptions
from orchestrator.client.groups.trials import Trials
from orchestrator.client.groups.users import Users
from orchestrator.client.groups.webhooks import Webhooks
from orchestrator.client.groups.workers import Workers


class Groups(Access):
    """Made when they are asked for: a client that holds what holds it would not be gone as soon as it is dropped."""

    @property
    def audit(self) -> Audit:
        """What people and programs did."""
        return Audit(self)

    @property
    def flows(self) -> Flows:
        """What is registered."""
        return Flows(self)

    @property
    def keys(self) -> Keys:
        """API keys."""
        return Keys(self)

    @property
    def notifications(self) -> Notifications:
        """What subscriptions are told."""
        return Notifications(self)

    @property
    def subscriptions(self) -> Subscriptions:
        """Who is told what."""
        return Subscriptions(self)

    @property
    def trials(self) -> Trials:
        """Backups, drills, smoke tests: when they were, and how they went."""
        return Trials(self)

    @property
    def users(self) -> Users:
        """Who signs in."""
        return Users(self)

    @property
    def webhooks(self) -> Webhooks:
        """What publishers call, and what came."""
        return Webhooks(self)

    @property
    def workers(self) -> Workers:
        """The processes that serve flows."""
        return Workers(self)
