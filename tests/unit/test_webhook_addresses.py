"""Who may call, and who it is that calls."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.webhooks.addresses import AddressList, client_address, parse_address
from orchestrator.webhooks.presets import PRESETS, UNLISTED


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("192.0.2.0/24", ["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.9"], ["192.0.3.0", "191.255.255.255", "::1"]),
        ("192.0.2.7", ["192.0.2.7", "::ffff:c000:207"], ["192.0.2.8", "192.0.2.6"]),
        ("192.0.2.5-192.0.2.9", ["192.0.2.5", "192.0.2.9"], ["192.0.2.4", "192.0.2.10"]),
        ("192.0.*.7", ["192.0.0.7", "192.0.255.7"], ["192.0.2.8", "192.1.2.7", "::1"]),
        ("192.0.*", ["192.0.0.0", "192.0.255.255"], ["192.1.0.0"]),
        ("0.0.0.0/0", ["1.2.3.4", "::ffff:1.2.3.4"], ["2001:db8::1"]),
        ("::/0", ["2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4"]),
        ("2001:db8::/32", ["2001:db8:ffff::"], ["2001:db9::"]),
        ("2001:db8::5 - 2001:db8::9", ["2001:db8::7"], ["2001:db8::a"]),
        ("::ffff:192.0.2.0/120", ["192.0.2.200", "::ffff:192.0.2.1"], ["192.0.3.0"]),
        ("github", ["140.82.112.1", "2606:50c0::1"], ["8.8.8.8"]),
        ("local", ["127.0.0.1", "10.9.8.7", "::1"], ["172.32.0.1"]),
    ],
)
def test_an_entry_lets_in_what_it_says(entry: str, inside: list[str], outside: list[str]) -> None:
    found = AddressList.parse([entry])
    assert [one for one in inside if not found.lets_in(one)] == []
    assert [one for one in outside if found.lets_in(one)] == []


@pytest.mark.parametrize(
    "entry",
    ["", "!", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.007", "256.1.1.1", "1.2.3", "192.0.2.9-192.0.2.5", "*", "1.*.3"],
)
def test_a_malformed_entry_spoils_the_list(entry: str) -> None:
    """What would be let in if it were dropped or guessed at, nobody wrote."""
    with pytest.raises(UsageError):
        AddressList.parse(["192.0.2.0/24", entry])


@pytest.mark.parametrize("entry", ["1.2.3.4-::1", "1.2.3.4 1.2.3.5", "example.com", "300.*.1.1", "01.*.1.1", "git hub"])
def test_another_malformed_entry_spoils_the_list(entry: str) -> None:
    with pytest.raises(UsageError):
        AddressList.parse([entry])


def test_what_is_denied_stays_out() -> None:
    found = AddressList.parse(["192.0.2.0/24", "!192.0.2.13", "!2001:db8::/32"])
    assert found.lets_in("192.0.2.12")
    assert not found.lets_in("192.0.2.13")
    assert not found.lets_in("::ffff:192.0.2.13")
    only_denied = AddressList.parse(["!192.0.2.13"])
    assert only_denied.lets_in("198.51.100.1")
    assert not only_denied.lets_in("192.0.2.13")


def test_who_is_not_known_stays_out_where_there_is_a_list() -> None:
    assert AddressList.parse([]).lets_in(None)
    assert not AddressList.parse(["0.0.0.0/0", "::/0"]).lets_in(None)
    assert not AddressList.parse(["!192.0.2.13"]).lets_in("no address")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_list_with_a_day(name: str) -> None:
    assert AddressList.parse([name]).allowed
    assert PRESETS[name].taken.year >= 2025
    assert PRESETS[name].source


@pytest.mark.parametrize("name", UNLISTED)
def test_a_publisher_without_a_list_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match="rely on the signature"):
        AddressList.parse([name])


def test_an_unknown_preset_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean `github`"):
        AddressList.parse(["guthub"])


# ---- the client ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded", "depth", "client"),
    [
        (["203.0.113.66, 198.51.100.7"], 1, "198.51.100.7"),
        (["203.0.113.66, 198.51.100.7"], 2, "203.0.113.66"),
        (["203.0.113.66, 198.51.100.7"], 3, None),
        (["203.0.113.66", "198.51.100.7"], 1, "198.51.100.7"),
        (["198.51.100.7:8080"], 1, "198.51.100.7"),
        (["[2001:db8::1]:443"], 1, "2001:db8::1"),
        (["[2001:db8::1]"], 1, "2001:db8::1"),
        (["2001:db8::1"], 1, "2001:db8::1"),
        (["::ffff:198.51.100.7"], 1, "198.51.100.7"),
        (["fe80::1%eth0"], 1, None),
        (["unknown"], 1, None),
        (["198.51.100.007"], 1, None),
        ([""], 1, None),
        ([], 1, None),
        (["203.0.113.66"], 0, "192.0.2.1"),
    ],
)
def test_the_client_is_counted_from_the_right(forwarded: list[str], depth: int, client: str | None) -> None:
    """What stands further left was written by whoever called the first trusted proxy."""
    assert client_address("192.0.2.1", forwarded, depth) == client


def test_only_a_listed_proxy_is_believed() -> None:
    proxies = AddressList.parse(["10.0.0.0/8"])
    assert client_address("10.1.2.3", ["198.51.100.7"], 1, proxies) == "198.51.100.7"
    assert client_address("192.0.2.1", ["198.51.100.7"], 1, proxies) is None


@given(st.ip_addresses())
def test_an_address_is_in_its_own_list_however_it_is_written(address: IPv4Address | IPv6Address) -> None:
    found = AddressList.parse([str(address)])
    assert found.lets_in(str(address))
    assert found.lets_in(f"[{address}]:1" if isinstance(address, IPv6Address) else f"{address}:1")


@given(st.text(max_size=60), st.integers(0, 4), st.lists(st.text(max_size=60), max_size=4))
def test_nothing_that_is_sent_raises(peer: str, depth: int, forwarded: list[str]) -> None:
    found = client_address(peer, forwarded, depth)
    assert found is None or ip_address(found)
    parse_address(peer)


@given(st.lists(st.text(alphabet="0123456789abcdef.:/-*! githublocal", max_size=30), max_size=4))
def test_a_list_is_read_or_refused(entries: list[str]) -> None:
    with suppress(UsageError):
        AddressList.parse(entries).lets_in("192.0.2.1")
