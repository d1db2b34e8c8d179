"""What a process needs to judge deliveries: where secrets are, how many may come, what counts where a webhook says
nothing."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from orchestrator.core.webhook_triggers import Mode, WebhookRate, WebhookTrigger
from orchestrator.webhooks.gates import Door, Gate, Secrets, Verdict

SIGNED: Final = WebhookRate(limit=600)
"""What a webhook without a rate of its own takes of what is signed."""
UNSIGNED: Final = WebhookRate(limit=120)
"""What any webhook takes of what is not: a share of its own, so that a flood of it keeps no publisher out."""


class Rates(Protocol):
    """Counts what comes, for all processes that share it."""

    def hit(self, bucket: str, limit: int, per: timedelta) -> int | None:
        """Count one; None if it is within the limit, else the seconds after which to come again."""


class NoRates:
    """Lets everything in."""

    def hit(self, bucket: str, limit: int, per: timedelta) -> int | None:
        return None


ReadSecret = Callable[[str], str]
"""What a reference names. Raises LookupError, with a text that has nothing of the secret."""


@dataclass(frozen=True)
class Gatekeeper:
    """`mode` counts for webhooks that have none of their own."""

    read_secret: ReadSecret
    rates: Rates = field(default_factory=NoRates)
    mode: Mode = "enforce"
    _doors: dict[tuple[str, str], Door] = field(default_factory=dict, repr=False)

    def door(self, manifest_hash: str, slug: str, trigger: WebhookTrigger) -> Door:
        """A webhook, compiled once: a hash never changes its meaning.

        Raises:
            UsageError: its scheme is not known here.
        """
        found = self._doors.get((manifest_hash, slug))
        if found is None:
            found = self._doors[manifest_hash, slug] = Door.of(slug, trigger, self.mode)
        return found

    def secrets(self, trigger: WebhookTrigger) -> Secrets:
        """Read anew for each delivery, so that a key is rotated without a restart."""
        try:
            previous = None if trigger.previous_secret is None else self.read_secret(trigger.previous_secret)
            return Secrets(self.read_secret(trigger.secret), previous)
        except LookupError as exc:
            return Secrets(missing=str(exc.args[0]))

    def rate(self, door: Door, address: str | None, *, signed: bool) -> tuple[Verdict, int | None]:
        """Count a delivery, and the seconds after which to come again, if there were too many."""
        rate = (door.trigger.rate or SIGNED) if signed else UNSIGNED
        bucket = f"webhook:{door.slug}:{'signed' if signed else 'unsigned'}"
        if rate.by == "address":
            bucket += f":{address or 'unknown'}"
        wait = self.rates.hit(bucket, rate.limit, rate.per)
        if wait is None:
            return Verdict(Gate.RATE, True), None
        share = "" if signed else " that is not signed"
        why = f"more than {rate.limit} came in {rate.per.total_seconds():g} s{share}"
        return Verdict(Gate.RATE, False, why, 429), wait


def flood_id(slug: str, at: datetime) -> UUID:
    """The id of the row that stands for the refusals of a flood within a minute: as any id of a delivery, it begins
    with the time."""
    minute = int(at.timestamp()) // 60
    tail = int.from_bytes(hashlib.sha256(slug.encode()).digest()[:10], "big")
    value = (minute * 60_000) << 80 | tail
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)
