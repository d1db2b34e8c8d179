"""Addresses that publishers send from, as they were on the day they were taken. They change: look them up again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final


def _entries(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True, slots=True)
class Preset:
    """`source`: where the publisher keeps the list."""

    entries: tuple[str, ...]
    taken: date
    source: str


_ATLASSIAN: Final = Preset(
    _entries(
        """
            104.192.136.0/21 185.166.140.0/22 13.200.41.128/25 13.236.8.128/25 16.63.53.128/25
            18.136.214.0/25 18.184.99.128/25 18.234.32.128/25 18.246.31.128/25 43.202.69.0/25
            52.215.192.128/25 13.52.5.0/25 2401:1d80:3000::/36
            """
    ),
    date(2026, 6, 25),
    "https://ip-ranges.atlassian.com/",
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "github": Preset(
            _entries(
                """
            192.30.252.0/22 185.199.108.0/22 140.82.112.0/20 143.55.64.0/20
            2a0a:a440::/29 2606:50c0::/32
            """
            ),
            date(2026, 3, 12),
            "https://api.github.com/meta (`hooks`)",
        ),
        "stripe": Preset(
            _entries(
                """
            3.18.12.63 3.130.192.231 13.235.14.237 13.235.122.149 18.211.135.69 35.154.171.200
            52.15.183.38 54.88.130.119 54.88.130.237 54.187.174.169 54.187.205.235 54.187.216.72
            """
            ),
            date(2026, 1, 3),
            "https://stripe.com/files/ips/ips_webhooks.json",
        ),
        "square": Preset(
            ("54.245.1.154", "34.202.99.168", "54.212.177.79", "107.20.218.8"),
            date(2026, 9, 18),
            "https://developer.squareup.com/docs/webhooks/overview",
        ),
        "atlassian": _ATLASSIAN,
        "bitbucket": _ATLASSIAN,
        "local": Preset(
            _entries(
                """
            127.0.0.0/8 ::1 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16
            fc00::/7 fe80::/10
            """
            ),
            date(2026, 11, 29),
            "RFC 1918, RFC 4193",
        ),
    }
)

UNLISTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "shopify": "publishes no addresses of its webhooks",
        "twilio": "sends webhooks from addresses that change without notice",
        "slack": "publishes no addresses of its requests",
        "mailgun": "gives its addresses to account holders by its own API",
        "zoom": "keeps its list on a page that changes (support.zoom.com, Firewall settings)",
    }
)
"""Names that people look for, and why there is no list: one that is out of date would refuse the publisher."""
