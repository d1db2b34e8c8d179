"""What groups over HTTP have in common."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.client.groups.group import By
from orchestrator.core.durations import format_duration
from orchestrator.errors import UsageError
from orchestrator.ledger.access import Expiry

if TYPE_CHECKING:
    from orchestrator.client.remote.client import HttpClient


class Group:
    """Some of what a client does."""

    def __init__(self, client: "HttpClient") -> None:
        self._client = client

    def _tell(self, path: str, body: Any, by: By) -> None:
        """Do what answers nothing."""
        key_holder(by)
        self._client.transport.tell("POST", path, body)


def key_holder(by: By) -> None:
    """Nobody else does anything over HTTP.

    Raises:
        UsageError: somebody else is named.
    """
    if by is not None:
        name = by if isinstance(by, str) else by.name
        raise UsageError(
            f"{name!r} is named as who does this, and over HTTP that is whoever the API key belongs to. "
            "Fix: leave it out (--as), or use a key of theirs."
        )


def expiry_text(expires: Expiry | None) -> str | None:
    if expires is None:
        return None
    return expires.at.isoformat() if expires.at is not None else length_text(expires.after)


def length_text(length: timedelta | None) -> str | None:
    return None if length is None else format_duration(length)


def moment_text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
