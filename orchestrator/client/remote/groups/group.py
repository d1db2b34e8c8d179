"""What groups over HTTP have in common."""

from datetime import datetime, timedelta
from typing import Any

from orchestrator.client.groups.group import By
from orchestrator.client.remote.access import HttpAccess, nobody_else
from orchestrator.client.remote.transport import do
from orchestrator.core.durations import format_duration
from orchestrator.ledger.access import Expiry


class Group:
    """Some of what a client does."""

    def __init__(self, client: HttpAccess) -> None:
        self._client = client

    def _tell(self, path: str, body: Any, by: By) -> None:
        """Do what answers nothing of use."""
        nobody_else(by)
        self._client.transport.ask(do(path, body))


def expiry_text(expires: Expiry | None) -> str | None:
    if expires is None:
        return None
    return expires.at.isoformat() if expires.at is not None else length_text(expires.after)


def length_text(length: timedelta | None) -> str | None:
    return None if length is None else format_duration(length)


def moment_text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
