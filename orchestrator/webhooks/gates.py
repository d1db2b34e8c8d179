"""The gates a delivery passes, in their order: who sends it, how large it is, whether it is signed and fresh. What
follows (rate, the nonce, the start) needs more than the delivery, and is asked by the engine."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from orchestrator.core.durations import format_duration
from orchestrator.core.webhook_triggers import Mode, WebhookTrigger
from orchestrator.webhooks.addresses import AddressList
from orchestrator.webhooks.request import Request, Unreadable
from orchestrator.webhooks.schemes import Scheme, scheme_of
from orchestrator.webhooks.signatures import SecretUnusable, Signed, key_of, proving_key


class Gate(StrEnum):
    """In the order in which they are passed."""

    ADDRESS = "address"  # the client may call
    SIZE = "size"  # the body is not too large
    SIGNATURE = "signature"  # one of our keys proves it
    REPLAY = "replay"  # it is fresh, and was not taken before
    RATE = "rate"  # there are not too many
    IDEMPOTENCY = "idempotency"  # its key belongs to no other request
    START = "start"  # its run was started, or its signal delivered


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate said. `status` is HTTP's, for a refusal; `retry_after_s`, when it may come again."""

    gate: Gate
    passed: bool
    why: str = ""
    status: int = 0
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Door:
    """A webhook, compiled."""

    slug: str
    trigger: WebhookTrigger
    scheme: Scheme
    addresses: AddressList
    mode: Mode

    @classmethod
    def of(cls, slug: str, trigger: WebhookTrigger, mode: Mode = "enforce") -> "Door":
        """`mode` counts where the trigger has none of its own.

        Raises:
            UsageError: its scheme is not known here, or its list of addresses is malformed.
        """
        return cls(slug, trigger, scheme_of(trigger), AddressList.parse(trigger.addresses), trigger.mode or mode)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the references of a trigger name, as far as they could be read; `missing` says what could not, and why."""

    current: str | None = field(default=None, repr=False)
    previous: str | None = field(default=None, repr=False)
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gates said, until the first refusal where the mode is `enforce`. `signed` only if a key proved it."""

    verdicts: tuple[Verdict, ...] = ()
    signed: Signed | None = None
    previous_key: bool = False
    key: bytes | None = field(default=None, repr=False)

    @property
    def refusal(self) -> Verdict | None:
        """The first gate that it did not pass."""
        return next((one for one in self.verdicts if not one.passed), None)


def judge(door: Door, request: Request, secrets: Secrets, now: datetime) -> Judged:
    """Ask the gates that need nothing but the delivery. In mode `off` none is asked, in `audit` all are."""
    if door.mode == "off":
        return Judged()
    found: list[Verdict] = []
    goes_on = door.mode == "audit"
    for ask in (_address, _size):
        found.append(ask(door, request))
        if not (found[-1].passed or goes_on):
            return Judged(tuple(found))
    signature, signed, previous, key = _signature(door, request, secrets)
    found.append(signature)
    if signed is not None:
        found.append(_fresh(door, signed, now))
    return Judged(tuple(found), signed, previous, key)


def _address(door: Door, request: Request) -> Verdict:
    if door.addresses.lets_in(request.address):
        return Verdict(Gate.ADDRESS, True)
    return Verdict(Gate.ADDRESS, False, f"{request.address or 'an unknown address'} may not call", 403)


def _size(door: Door, request: Request) -> Verdict:
    size, most = len(request.body), door.trigger.max_body
    if size <= most:
        return Verdict(Gate.SIZE, True)
    return Verdict(Gate.SIZE, False, f"the body has {size:,} bytes, and {most:,} are taken", 413)


def _signature(door: Door, request: Request, secrets: Secrets) -> tuple[Verdict, Signed | None, bool, bytes | None]:
    try:
        keys = _keys(door, secrets)
    except SecretUnusable as exc:
        return Verdict(Gate.SIGNATURE, False, str(exc), 503), None, False, None
    try:
        signed = door.scheme.read(request)
    except Unreadable as exc:
        return Verdict(Gate.SIGNATURE, False, str(exc), 401), None, False, None
    place = proving_key(door.scheme.form, signed, keys)
    if place is None:
        return Verdict(Gate.SIGNATURE, False, "no key of ours made its signature", 401), None, False, None
    return Verdict(Gate.SIGNATURE, True), signed, place > 0, keys[place]


def _keys(door: Door, secrets: Secrets) -> Sequence[bytes]:
    """The current one first. Neither may be missing: a rotation with one key only would be half of one."""
    if secrets.missing or secrets.current is None:
        raise SecretUnusable(secrets.missing or "the secret is not set")
    form = door.scheme.form
    return [key_of(form, one) for one in (secrets.current, secrets.previous) if one is not None]


def _fresh(door: Door, signed: Signed, now: datetime) -> Verdict:
    """Whether it was signed within the window around now; a scheme that signs no time has no window."""
    if signed.time is None:
        return Verdict(Gate.REPLAY, True)
    window = door.trigger.tolerance or door.scheme.form.tolerance
    if abs(now - signed.time) <= window:
        return Verdict(Gate.REPLAY, True)
    ago = "before" if signed.time < now else "after"
    far = f"it was signed {format_duration(abs(now - signed.time))} {ago} now"
    return Verdict(Gate.REPLAY, False, f"{far}, and {format_duration(window)} are taken", 401)


@dataclass(frozen=True, slots=True)
class Nonces:
    """What makes a delivery itself: the `key` it is known again by, and the digest of what it says. `other_id` is an id
    that nobody signed: with it, another delivery contradicts this one."""

    key: str
    digest: str
    other_id: str | None = None


def nonces(door: Door, signed: Signed) -> Nonces:
    """From signed material only, so that a new delivery id does not make an old delivery a new one."""
    form = door.scheme.form
    if form.signs_id and signed.id is not None:
        return Nonces(f"id:{signed.id}", signed.id if form.same_by == "id" else signed.digest)
    return Nonces(f"body:{signed.digest}", signed.digest, None if signed.id is None else f"id:{signed.id}")
