"""Which headers of a request are kept with the run that it starts: none that proves who sent it."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from orchestrator.core.values import refusal

MOST: Final = 64
BYTES: Final = 8 * 1024
"""Of names and values together."""
_WORDS: Final = frozenset(
    {"authorization", "cookie", "signature", "hmac", "jwt", "secret", "password", "passwd", "apikey", "credential"}
)
"""Wherever they stand in a name: `x-hub-signature-256` is one of GitHub's."""
_LAST: Final = frozenset({"key", "token"})
_WORD: Final = re.compile(r"[^-_.]+")


def is_secret(name: str) -> bool:
    """Whether a header of this name is never kept: what authorizes, cookies, keys, tokens, secrets and signatures."""
    words = _WORD.findall(name.lower())
    return bool(words) and (words[-1] in _LAST or not _WORDS.isdisjoint(words))


def kept(given: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Those that are kept, by their names in small letters: at most 64 of 8 KiB together, in the order that they came
    in. One that came several times has its values behind each other, as HTTP has them."""
    pairs = given.items() if isinstance(given, Mapping) else given
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if not is_secret(name):
            found.setdefault(name.lower(), []).append(value)
    left = BYTES
    fitting: dict[str, str] = {}
    for name, values in found.items():
        value = ", ".join(values)
        if len(fitting) == MOST or refusal({name: value}) is not None:
            continue
        if (size := len(name.encode()) + len(value.encode())) <= left:
            fitting[name] = value
            left -= size
    return fitting


def kept_json(text: str) -> str:
    """The same of a JSON object."""
    return json.dumps(kept(json.loads(text)))
