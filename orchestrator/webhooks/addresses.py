"""Lists of addresses, and which address a request came from."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from orchestrator.core.suggest import did_you_mean
from orchestrator.errors import UsageError
from orchestrator.webhooks.presets import PRESETS, UNLISTED

Address = IPv4Address | IPv6Address
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_OCTET: Final = r"(?:\*|0|[1-9][0-9]{0,2})"
_WILDCARD: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)
_NAME: Final = re.compile(r"[a-z_]+", re.ASCII)
_WITH_PORT: Final = re.compile(r"\[([0-9a-fA-F:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """Addresses from one to another, both included."""

    first: Address
    last: Address

    def __contains__(self, address: Address) -> bool:
        first, last = self.first, self.last
        if isinstance(address, IPv4Address):
            return isinstance(first, IPv4Address) and isinstance(last, IPv4Address) and first <= address <= last
        return isinstance(first, IPv6Address) and isinstance(last, IPv6Address) and first <= address <= last


@dataclass(frozen=True, slots=True)
class Wildcard:
    """Octets, of which some may be anything."""

    octets: tuple[int | None, ...]

    def __contains__(self, address: Address) -> bool:
        if not isinstance(address, IPv4Address):
            return False
        return all(wanted is None or wanted == own for wanted, own in zip(self.octets, address.packed, strict=True))


@dataclass(frozen=True, slots=True)
class AddressList:
    """Who may call. An empty one lets everybody in; what is denied stays out, whatever else is said."""

    allowed: tuple[Span | Wildcard, ...] = ()
    denied: tuple[Span | Wildcard, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "AddressList":
        """
        Raises:
            UsageError: an entry is malformed; nothing of the list counts then.
        """
        allowed: list[Span | Wildcard] = []
        denied: list[Span | Wildcard] = []
        for entry in entries:
            text = entry.strip()
            (denied if text.startswith("!") else allowed).extend(_entry(text.removeprefix("!").strip(), entry))
        return cls(tuple(allowed), tuple(denied))

    def lets_in(self, address: str | None) -> bool:
        """Whether this client may call. One whose address is not known may not, where there is a list."""
        if not self.allowed and not self.denied:
            return True
        found = parse_address(address)
        if found is None or any(found in one for one in self.denied):
            return False
        return not self.allowed or any(found in one for one in self.allowed)


def _entry(text: str, written: str) -> Sequence[Span | Wildcard]:
    if _NAME.fullmatch(text):
        return _preset(text)
    try:
        if "*" in text:
            return [_wildcard(text)]
        if "-" in text:
            return [_span(*text.split("-", 1))]
        network = ip_network(text)
    except ValueError as exc:
        raise UsageError(
            f"{written!r:.120} in a list of addresses is malformed: {exc!s:.120}. Fix: write 192.0.2.0/24, "
            "192.0.2.1-192.0.2.9, 192.0.2.*, one address, or a preset."
        ) from exc
    return [_plain_span(network[0], network[-1])]


def _preset(name: str) -> Sequence[Span | Wildcard]:
    if name in PRESETS:
        return [one for entry in PRESETS[name].entries for one in _entry(entry, entry)]
    if name in UNLISTED:
        raise UsageError(
            f"There is no list of addresses for {name}: it {UNLISTED[name]}. Fix: leave `addresses` out, and rely on "
            "the signature."
        )
    raise UsageError(f"There is no list of addresses {name!r:.60}. Fix: {did_you_mean(name, PRESETS)}")


def _wildcard(text: str) -> Wildcard:
    parts = text.split(".")
    full = text if len(parts) == 4 or parts[-1] != "*" else ".".join(parts + ["*"] * (4 - len(parts)))
    if not _WILDCARD.fullmatch(full):
        raise ValueError("it does not have four octets, each a number or *")
    octets = tuple(None if part == "*" else int(part) for part in full.split("."))
    if any(octet is not None and octet > 255 for octet in octets):
        raise ValueError("an octet is more than 255")
    if octets[0] is None:
        raise ValueError("its first octet is any")
    return Wildcard(octets)


def _span(first: str, last: str) -> Span:
    span = _plain_span(ip_address(first.strip()), ip_address(last.strip()))
    if span.first.version != span.last.version:
        raise ValueError("its ends are of two kinds")
    if int(span.first) > int(span.last):
        raise ValueError("it ends before it begins")
    return span


def _plain_span(first: Address, last: Address) -> Span:
    return Span(plain(first), plain(last)) if first in _MAPPED and last in _MAPPED else Span(first, last)


def plain(address: Address) -> Address:
    """An IPv4 address that came as `::ffff:192.0.2.1` is 192.0.2.1."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_address(text: str | None) -> Address | None:
    """An address, with a port or without; None when it is none, or has a zone."""
    found = (text or "").strip()
    if match := _WITH_PORT.fullmatch(found):
        found = match[1] or match[2]
    try:
        address = ip_address(found)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None
    return plain(address)


def client_address(
    peer: str | None, forwarded: Iterable[str], depth: int, proxies: AddressList | None = None
) -> str | None:
    """The address of the client behind `depth` trusted proxies: that many places from the right of X-Forwarded-For,
    since whatever stands further left was written by somebody else. None when it cannot be told: the list is too
    short, or a peer that is none of `proxies` brings one.

    `forwarded` are the values of that header, in the order that they came in.
    """
    if depth == 0:
        found = parse_address(peer)
        return None if found is None else str(found)
    if proxies is not None and not proxies.lets_in(peer):
        return None
    hops = [hop for value in forwarded for hop in value.split(",")]
    if len(hops) < depth:
        return None
    found = parse_address(hops[-depth])
    return None if found is None else str(found)
