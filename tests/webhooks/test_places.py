"""Where a webhook may be sent to: nowhere that only this host reaches."""

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.webhooks.out.model import AddressRules
from orchestrator.webhooks.out.places import PUBLIC, PlaceRefused, check_addresses, read_place

RULES = AddressRules()
ANY_PORT = AddressRules.of(ports=None, plain_http=True)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://hooks.example.com/a/b?c=d", "hooks.example.com", 443, "/a/b?c=d"),
        ("https://HOOKS.example.com:8443", "hooks.example.com", 8443, "/"),
        ("https://bücher.example/ü", "xn--bcher-kva.example", 443, "/%C3%BC"),
        ("https://8.8.8.8/", "8.8.8.8", 443, "/"),
        ("https://[2606:50c0::1]/", "2606:50c0::1", 443, "/"),
        ("https://[64:ff9b::808:808]/", "64:ff9b::808:808", 443, "/"),
    ],
)
def test_a_public_place_is_taken(url: str, host: str, port: int, path: str) -> None:
    place = read_place(url, RULES)
    assert (place.host, place.port, place.path) == (host, port, path)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://example.com:443/", "example.com"),
        ("https://example.com:8443/", "example.com:8443"),
        ("http://example.com:443/", "example.com:443"),
        ("https://[2606:50c0::1]/", "[2606:50c0::1]"),
        ("https://[2606:50c0::1]:8443/", "[2606:50c0::1]:8443"),
    ],
)
def test_a_place_is_named_as_http_has_it(url: str, authority: str) -> None:
    assert read_place(url, ANY_PORT).authority == authority


PRIVATE: Final = """
    127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.100.100.200
    169.254.169.254 169.254.170.2 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255
    240.0.0.1 255.255.255.255 168.63.129.16
    ::1 :: fe80::1 fec0::1 fc00::1 fd00:ec2::254 ff02::1 ::ffff:7f00:1 ::ffff:169.254.169.254 ::7f00:1 ::127.0.0.1
    2002:7f00:1:: 2002:a9fe:a9fe::1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808 2001::1 2001:db8::1
    2001:0:4136:e378:8000:63bf:3fff:fdd2 3fff::1 100::1 5f00::1 4000::1
"""
ODD: Final = """
    127.1 0x7f.1 0177.0.0.1 2130706433 0x7f000001 017700000001 127.0.0.1. 127.0.0.01 localhost. 127.1. 1.2.3.4.5
    %31%32%37.0.0.1 a..b 256.256.256.256 name.0x 3232235777 [::1%25lo] [127.0.0.1] ①②⑦.0.0.1
"""


@pytest.mark.parametrize("text", PRIVATE.split())
def test_what_is_not_public_is_refused(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(PlaceRefused, match="may not reach"):
        read_place(f"https://{host}/", RULES)


@pytest.mark.parametrize("host", ODD.split())
def test_an_address_in_another_spelling_is_refused(host: str) -> None:
    """Resolvers read these as addresses, each in its own way; nobody means well with them."""
    with pytest.raises(PlaceRefused):
        read_place(f"https://{host}/", RULES)


def test_a_full_stop_of_another_script_hides_no_address() -> None:
    with pytest.raises(PlaceRefused, match="may not reach"):
        read_place("https://127。0。0。1/", RULES)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/", "without TLS"),
        ("file:///etc/passwd", "neither https"),
        ("gopher://example.com/", "neither https"),
        ("//example.com/", "neither https"),
        ("", "neither https"),
        ("https:///path", "host"),
        ("https://user@example.com/", "in front of its host"),
        ("https://user:pass@example.com/", "in front of its host"),
        ("https://example.com\\@10.0.0.1/", "in front of its host"),
        ("https://example.com:22/", "Port 22"),
        ("https://example.com:6379/", "Port 6379"),
        ("https://example.com:0/", "its port"),
        ("https://example.com:99999/", "its port"),
        ("https://exam\nple.com/", "not a URL"),
        ("https://exam ple.com/", "host"),
        ("https://example.com/" + "a" * 2048, "characters"),
        ("https://[::1", "not a URL"),
    ],
)
def test_a_url_that_is_none_for_webhooks_says_why(url: str, why: str) -> None:
    with pytest.raises(PlaceRefused, match=why):
        read_place(url, RULES)


def test_a_refusal_has_nothing_of_the_path() -> None:
    """The path of Slack's URL is its secret."""
    for url in ("http://hooks.example.com/SECRET", "https://10.0.0.1/SECRET", "https://h:22/SECRET", "ftp://h/SECRET"):
        with pytest.raises(PlaceRefused) as caught:
            read_place(url, RULES)
        assert "SECRET" not in str(caught.value)


def test_one_private_address_among_public_ones_is_enough() -> None:
    for addresses in (["8.8.8.8", "10.0.0.1"], ["2606:50c0::1", "::1"], ["8.8.8.8", "fe80::1%eth0"]):
        with pytest.raises(PlaceRefused):
            check_addresses("name", [ip_address(one) for one in addresses], RULES)
    check_addresses("name", [ip_address("8.8.8.8"), ip_address("2606:50c0::1")], RULES)


def test_ones_own_networks_are_let_in_by_a_list_and_no_others() -> None:
    rules = AddressRules.of(["10.1.0.0/16", "fd00:1::/32", "!8.8.8.8"])
    for inside in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00:1::5", "8.8.4.4"):
        check_addresses("name", [ip_address(inside)], rules)
    for outside in ("10.2.0.1", "127.0.0.1", "fd00:2::1", "8.8.8.8", "64:ff9b::808:808"):
        with pytest.raises(PlaceRefused):
            check_addresses("name", [ip_address(outside)], rules)
    with pytest.raises(UsageError):
        AddressRules.of(["10.1.0.0/16", "10.1"])


@given(st.one_of(st.ip_addresses(), st.ip_addresses(v=6, network="2000::/3"), st.ip_addresses(network="192.0.0.0/8")))
def test_what_python_holds_for_private_is_never_public(address: IPv4Address | IPv6Address) -> None:
    """A second list of the same registries."""
    assert not PUBLIC.lets_in(str(address)) or address.is_global


@given(st.ip_addresses(v=4))
def test_an_address_inside_of_another_is_judged_as_itself(address: IPv4Address) -> None:
    inside = [
        IPv6Address(int(IPv6Network(network).network_address) | int(address))
        for network in ("::ffff:0:0/96", "64:ff9b::/96")
    ]
    assert {_is_taken(one) for one in inside} == {_is_taken(address)}


def _is_taken(address: IPv4Address | IPv6Address) -> bool:
    try:
        check_addresses("name", [address], RULES)
    except PlaceRefused:
        return False
    return True


@given(st.text(alphabet="0123456789abcdefx.:[]%@/\\-_?#* \t\u3002\uff11é", max_size=40))
def test_whatever_stands_for_a_host_is_a_public_place_or_refused(host: str) -> None:
    """A name is all that may be left to the resolver, and no resolver reads it as an address."""
    try:
        place = read_place(f"https://{host}", ANY_PORT)
    except PlaceRefused:
        return
    if place.literal is None:
        with pytest.raises(OSError, match=r".*"):
            socket.inet_aton(place.host)
    else:
        assert _is_taken(place.literal)
