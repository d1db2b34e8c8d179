"""Who may do what: roles, scopes, and what an API key and a session look like."""

import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
"""256 random bits: nobody guesses them, so one round of SHA-256 is enough to keep them by."""
KEY: Final = "orc"
"""How an API key begins: scanners for leaked secrets find it by this and by its checksum."""
SESSION: Final = "ors"
"""How the token of a session begins."""
_TOKEN: Final = re.compile(r"(or[cs])_([0-9a-f]{16})_([0-9a-f]{64})_([0-9a-f]{8})")
_KEYS: Final = "key:"
_NAME: Final = re.compile(r"[^\W_][\w .@:/+-]{0,99}")


class Role(StrEnum):
    """Each may do what the one before it may."""

    VIEWER = "viewer"  # looks
    OPERATOR = "operator"  # starts, stops and answers runs, pauses schedules
    ADMIN = "admin"  # gives access, removes runs, changes rules

    def covers(self, needed: "Role") -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


_TAKEN: Final = frozenset({*Role, "local", "nobody", "*"})


class Scope(StrEnum):
    """What a key can be narrowed to; its role still holds there."""

    TRIGGER = "trigger"  # start runs
    FLOWS = "flows"  # flows, versions and handlers
    RUNS = "runs"  # runs, their steps and their signals
    APPROVALS = "approvals"  # what runs ask people
    SCHEDULES = "schedules"
    WEBHOOKS = "webhooks"  # deliveries in, subscriptions out
    EVENTS = "events"  # the stream
    WORKERS = "workers"  # workers and queues
    METRICS = "metrics"  # what Prometheus scrapes
    OPERATIONS = "operations"  # many runs at once
    SECRETS = "secrets"  # outputs as they are, with their secrets
    ACCESS = "access"  # keys, users, sessions, audit


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do. Without scopes: everything that the role may; without flows: in every flow."""

    role: Role
    scopes: frozenset[Scope] = frozenset()
    flows: frozenset[str] = frozenset()

    def allows(self, role: Role, scope: Scope) -> bool:
        """Whether a thing of that scope that needs `role` may be done, in some flow."""
        return self.role.covers(role) and (not self.scopes or scope in self.scopes)

    def reaches(self, flow: str) -> bool:
        """Whether that flow is one of its own."""
        return not self.flows or flow in self.flows


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from where, for the record."""

    name: str
    key_id: str | None = None
    """Of the API key or the session."""
    address: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, by: "str | Actor") -> "Actor":
        """Somebody of whom only the name may be known."""
        return by if isinstance(by, Actor) else cls(by)


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did to what, for the audit: `was` and `became` are the facts before and after."""

    action: str
    target: str
    was: Mapping[str, Any] | None = None
    became: Mapping[str, Any] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """A key or a token as the ledger knows it: who has both of these cannot find the secret."""

    id: str
    digest: bytes


def mint(kind: str, id_bytes: bytes, secret: bytes) -> str:
    """The text of a new key (`KEY`) or session (`SESSION`), of random bytes that nobody else has:
    `orc_<id>_<secret>_<checksum>`.

    Raises:
        ValueError: too few or too many bytes.
    """
    if (len(id_bytes), len(secret)) != (ID_BYTES, SECRET_BYTES):
        raise ValueError(f"A key is made of {ID_BYTES} and {SECRET_BYTES} bytes.")
    text = f"{kind}_{id_bytes.hex()}_{secret.hex()}"
    return f"{text}_{_checksum(text)}"


def read(kind: str, text: str) -> Credential | None:
    """None for what is no key of this kind: a typing error is found without asking the ledger."""
    found = _TOKEN.fullmatch(text)
    if found is None or found[1] != kind or _checksum(text.rpartition("_")[0]) != found[4]:
        return None
    return Credential(found[2], hashlib.sha256(bytes.fromhex(found[3])).digest())


def same(known: bytes | None, given: bytes) -> bool:
    """Whether two digests are alike, in a time that does not tell where they differ; never for an unknown one."""
    return hmac.compare_digest(known or bytes(hashlib.sha256().digest_size), given) and known is not None


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode('ascii')):08x}"


def is_name(text: str) -> bool:
    """Whether a key or a user may be called so: 1 to 100 letters, digits, spaces and `_.@:/+-`, which no page or line
    of a log reads as anything else."""
    return _NAME.fullmatch(text) is not None and text == text.strip()


def is_user_name(text: str) -> bool:
    """Whether a user may be called so: they would pass for a key in the record, for whoever asks at the machine of the
    API, or for everybody of a role where an approval asks that role."""
    return is_name(text) and not text.startswith(_KEYS) and text not in _TAKEN
