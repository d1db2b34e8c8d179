"""What groups have in common."""

from orchestrator.client.access import Access
from orchestrator.client.given import user
from orchestrator.core.access import Actor

By = str | Actor | None
"""Who does something, for the record; without, your login."""


class Group:
    """Some of what a client does."""

    def __init__(self, client: Access) -> None:
        self._client = client


def actor(by: By) -> Actor:
    """For the audit."""
    return by if isinstance(by, Actor) else Actor(by or user())


def name_of(by: By) -> str:
    """For what keeps a name only."""
    return actor(by).name
