"""Subscriptions: what is told to others, of which runs, where; and when it is tried again."""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from orchestrator.core.suggest import did_you_mean
from orchestrator.core.webhook_triggers import SecretReference

Kind = Literal["json", "slack", "email"]
"""How it is written: JSON with a signature, a message of Slack, a plain e-mail."""

BREAKER: Final = 5
"""Failures in a row after which an endpoint is left alone,"""
BREAK: Final = timedelta(seconds=60)
"""for so long; then one notification tries it."""
SIDE_BY_SIDE: Final = 4
"""Notifications that are under way to one endpoint at a time."""
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(hours=6)
_FACTOR: Final = 3
OVERLAP: Final = timedelta(days=1)
"""How long the secret before a rotation signs as well."""
SIGNING_KEY_MIN: Final = 32
"""Characters of the key that secrets are made of."""
OUTPUT_CAP: Final = 64 * 1024
"""Bytes of JSON that the output of a run may have, to be told."""

_MADE: Final = re.compile(r"made:([1-9][0-9]{0,8})")
_ADDRESS: Final = re.compile(r"[^@\s<>\",;:]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,9}")


class NotificationState(StrEnum):
    """Where a notification stands. A dead one is tried again if somebody asks for it."""

    PENDING = "pending"  # it is due at a time, or under way
    DELIVERED = "delivered"  # the endpoint took it
    DEAD = "dead"  # the endpoint refused it for good, or never took it


TOLD: Final[Mapping[str, str]] = MappingProxyType(
    {
        "run.accepted": "run.accepted",
        "run.started": "run.started",
        "run.succeeded": "run.succeeded",
        "run.failed": "run.failed",
        "run.cancelled": "run.cancelled",
        "run.timed_out": "run.timed_out",
        "run.retried": "run.retried",
        "step.failed": "step.failed",
        "step.waiting": "step.parked",
        "approval.asked": "step.parked",
        "approval.answered": "approval.answered",
    }
)
"""What can be told, and the event of the ledger that it is made of. A wait for a person is told as `approval.asked`,
every other one as `step.waiting`."""
TEST: Final = "subscription.test"
"""What is sent to try an endpoint; nobody subscribes to it."""


def type_of(event: str, facts: JsonValue) -> str:
    """How an event of the ledger is told."""
    if event != "step.parked":
        return event
    return "approval.asked" if isinstance(facts, dict) and "to" in facts else "step.waiting"


def events_of(types: Iterable[str]) -> set[str]:
    """The events of the ledger that these are made of."""
    return {TOLD[type] for type in types}


def pause(tries: int, jitter: float) -> timedelta:
    """How long to wait after that many failures: 5 s, 15 s, 45 s … six hours at most; `jitter`, from 0 to 1, moves it
    by a fifth to either side."""
    grown: timedelta = FIRST_PAUSE * (_FACTOR ** min(tries - 1, 10))
    return min(grown, LONGEST_PAUSE) * (0.8 + 0.4 * jitter)


def made_secret(signing_key: str, subscription: str, reference: str) -> bytes:
    """The secret that belongs to a subscription and `made:N`. The ledger has neither it nor the key.

    Raises:
        ValueError: that is no such reference.
    """
    if not _MADE.fullmatch(reference):
        raise ValueError(f"{reference[:20]} is no number of a secret")
    text = f"orchestrator subscription\0{subscription}\0{reference}"
    return hmac.digest(signing_key.encode(), text.encode(), hashlib.sha256)


def made_after(reference: str | None) -> str:
    """The reference of the secret that is made next."""
    found = _MADE.fullmatch(reference or "")
    return f"made:{int(found[1]) + 1 if found else 1}"


def is_made(reference: str) -> bool:
    """Whether the secret was made here, not given."""
    return _MADE.fullmatch(reference) is not None


def whsec(secret: bytes) -> str:
    """As Standard Webhooks writes a secret."""
    return f"whsec_{b64encode(secret).decode()}"


def shown_address(kind: Kind, address: str) -> str:
    """Without what may be a secret: the path of Slack's URLs is one, a query may hold a token."""
    if kind == "email" or is_reference(address):
        return address
    url = urlsplit(address)
    return f"{url.scheme}://{url.netloc}" + ("/…" if kind == "slack" else url.path + ("?…" if url.query else ""))


def is_reference(address: str) -> bool:
    """Whether it says where the address is, as it does for a secret."""
    return address.startswith(("env:", "file:"))


def address_problem(kind: Kind, address: str) -> str | None:
    """Why nothing can be sent there, with the fix, as far as can be told without asking for it."""
    if kind == "email":
        return None if _ADDRESS.fullmatch(address) else "it is no e-mail address. Fix: write name@example.com"
    try:
        url = urlsplit(address)
        fits = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:  # brackets without an end, a port that is no number
        fits = False
    if not fits:
        return "it is no URL. Fix: write https://example.com/path"
    if "@" in url.netloc:
        return "it names a user. Fix: leave out what stands in front of the `@`"
    if url.fragment:
        return "it has a fragment. Fix: leave out what stands behind the `#`"
    return None


def _types(given: tuple[str, ...]) -> tuple[str, ...]:
    for name in given:
        if name not in TOLD:
            raise ValueError(f"nothing is told as `{name[:50]}`. Fix: {did_you_mean(name, TOLD)}")
    return tuple(dict.fromkeys(given))


def _address(given: str) -> str:
    if any(char.isspace() or not char.isprintable() for char in given):
        raise ValueError("it has spaces, or signs that do not print")
    return given


Types = Annotated[tuple[str, ...], Field(fail_fast=True, min_length=1, max_length=len(TOLD)), AfterValidator(_types)]
Address = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_address)]
Include = Annotated[tuple[Literal["output"], ...], Field(fail_fast=True, max_length=10)]


class Wanted(BaseModel):
    """What a subscription says. `q` is a query for runs; an empty one means all. The address may be a reference, as a
    secret is: `env:NAME`, `file:/path`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "json"
    address: Address
    types: Types
    q: Annotated[str, Field(max_length=2000)] = ""
    include: Include = ()
    secret: SecretReference | None = None
    """A reference to it; without one it is made."""

    @field_validator("include")
    @classmethod
    def _once(cls, given: Include) -> Include:
        return tuple(dict.fromkeys(given))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not is_reference(self.address) and (problem := address_problem(self.kind, self.address)):
            raise ValueError(f"nothing can be sent there: {problem}")
        if self.secret is not None and self.kind != "json":
            raise ValueError(f"`secret` signs JSON; what is sent as {self.kind} is not signed. Fix: leave it out")
        return self
