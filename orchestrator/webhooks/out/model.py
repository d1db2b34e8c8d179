"""What is sent, where it goes, and what came of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import JsonValue

from orchestrator.core.subscriptions import Kind
from orchestrator.webhooks.addresses import AddressList

PORTS: Final = frozenset({80, 443, 8080, 8443})
"""Where HTTP is served. Others are those of databases, mail and the like, which nobody posts to."""


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What may be reached by HTTP: every public address, on `ports` (None: on all).

    `own` lists addresses of one's own that are not public and may be reached as well, and with `!` public ones that may
    not. An empty list adds nothing and refuses nothing.
    """

    own: AddressList = field(default_factory=AddressList)
    plain_http: bool = False
    ports: frozenset[int] | None = PORTS

    @classmethod
    def of(
        cls, own: Iterable[str] = (), *, plain_http: bool = False, ports: Iterable[int] | None = PORTS
    ) -> "AddressRules":
        """From what settings say.

        Raises:
            UsageError: an entry of `own` is malformed.
        """
        return cls(AddressList.parse(own), plain_http, None if ports is None else frozenset(ports))


@dataclass(frozen=True, slots=True)
class MailServer:
    """Takes e-mail by SMTP. `password` is the password itself; whoever makes this has read the reference to it."""

    host: str
    sender: str
    """An address, such as flows@example.com."""
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes: `address` is a URL, or an e-mail address. `mail` takes what goes to the latter."""

    kind: Kind
    address: str = field(repr=False)  # the path of a URL of Slack is its secret
    rules: AddressRules = field(default_factory=AddressRules)
    mail: MailServer | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """Something that happened. `id` is the same at every try, so that who gets it twice can tell."""

    id: str
    kind: str
    """The type of the event, such as `run.failed`."""
    at: datetime
    """When it happened, UTC."""
    data: JsonValue


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try.

    `status` is HTTP's or SMTP's, None when no answer came. `error` says what went wrong, without secrets and without
    the answer's text. `retry_after`: the other side asked for that much time. `final`: another try cannot help.
    """

    status: int | None
    error: str | None
    retry_after: timedelta | None
    duration_ms: int
    ok: bool
    final: bool
