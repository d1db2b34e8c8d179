"""Which URLs and which addresses a webhook may be sent to. Whoever may subscribe must not get at what only this host
reaches: its own services, its network, the metadata of its cloud."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final

import httpx2

from orchestrator.errors import UsageError
from orchestrator.webhooks.addresses import Address, AddressList, parse_address, plain
from orchestrator.webhooks.out.model import AddressRules

URL_LIMIT: Final = 2048
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

_BLOCKS: Final = """
    0.0.0.0/0
        !0.0.0.0/8 !10.0.0.0/8 !100.64.0.0/10 !127.0.0.0/8 !169.254.0.0/16 !172.16.0.0/12 !192.0.0.0/24 !192.0.2.0/24
        !192.88.99.0/24 !192.168.0.0/16 !198.18.0.0/15 !198.51.100.0/24 !203.0.113.0/24 !224.0.0.0/4 !240.0.0.0/4
        !168.63.129.16
    2000::/3
        !2001::/23 !2001:db8::/32 !2002::/16 !3fff::/20
"""
PUBLIC: Final = AddressList.parse(_BLOCKS.split())
"""The registries of special-purpose addresses of IANA, turned round: what is left is of the internet. Of IPv6 that is
one block, without what carries an address of IPv4 in it (6to4, Teredo). 168.63.129.16 is public by the registry, and
in Azure the host itself."""
_NAT64: Final = IPv6Network("64:ff9b::/96")


class PlaceRefused(UsageError):
    """A webhook may not be sent there."""


@dataclass(frozen=True, slots=True)
class Place:
    """A URL, taken apart. `host` is in ASCII, `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def literal(self) -> Address | None:
        """The address, where the host is one and no name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """As the header `Host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def read_place(url: str, rules: AddressRules) -> Place:
    """The place of a URL, as far as can be told without asking for the addresses of its name.

    Raises:
        PlaceRefused: it is malformed, or nothing may be sent there. The message has the host only: paths hold secrets.
    """
    place = _parsed(url)
    if place.scheme == "http" and not rules.plain_http:
        raise PlaceRefused(f"A webhook to {place.host} would be sent without TLS. Fix: write https://…")
    if rules.ports is not None and place.port not in rules.ports:
        known = ", ".join(str(port) for port in sorted(rules.ports))
        raise PlaceRefused(f"Port {place.port} is none that webhooks are sent to. Fix: use one of {known}.")
    if place.literal is not None:
        check_addresses(place.host, [place.literal], rules)
    return place


def _parsed(url: str) -> Place:
    if len(url) > URL_LIMIT:
        raise PlaceRefused(f"A URL of {len(url):,} characters. Fix: at most {URL_LIMIT:,}.")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise _malformed("it is not a URL") from exc
    if parsed.scheme not in _DEFAULT_PORTS:
        raise _malformed("it begins with neither https:// nor http://")
    if parsed.userinfo:
        raise _malformed("it has a user or a password in front of its host")
    host = parsed.raw_host.decode("ascii")
    port = _DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    if not 1 <= port <= 65535:
        raise _malformed("its port is none")
    place = Place(parsed.scheme, host, port, parsed.raw_path.decode("ascii"))
    if place.literal is None and not _is_name(host):
        raise _malformed("its host is neither a name nor an address as it is usually written")
    return place


def _is_name(host: str) -> bool:
    """A host that ends in a number is an address to a resolver: 127.1, 0x7f.1 and 2130706433 are all 127.0.0.1."""
    return bool(_NAME.fullmatch(host)) and len(host) <= 253 and not _NUMBER.fullmatch(host.rpartition(".")[2])


def _malformed(why: str) -> PlaceRefused:
    return PlaceRefused(f"A webhook cannot be sent to this URL: {why}. Fix: write https://name.example/path.")


def check_addresses(host: str, addresses: Sequence[Address], rules: AddressRules) -> None:
    """
    Raises:
        PlaceRefused: one of them may not be reached. One is enough: a name that has a private address beside a public
            one was made for getting in.
    """
    for address in addresses:
        if not _may_reach(address, rules):
            raise PlaceRefused(
                f"{host} has the address {address}, which webhooks may not reach. Fix: use one that is public, or list "
                "the address in ORCHESTRATOR_WEBHOOK_NETWORKS."
            )


def _may_reach(address: Address, rules: AddressRules) -> bool:
    # The text has a zone, if there is one, and is no address of a list then.
    meant = parse_address(str(_inner(plain(address))))
    if meant is None or any(meant in one for one in rules.own.denied):
        return False
    return any(meant in one for one in rules.own.allowed) or PUBLIC.lets_in(str(meant))


def _inner(address: Address) -> Address:
    """Where a network without IPv4 reaches IPv4 by a gateway, the address of IPv4 is meant."""
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else address
