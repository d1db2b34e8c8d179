"""Ids by a part of them: the last characters tell those of one hour apart, the first ones are a clock."""

from typing import Final

LEAST: Final = 4
"""Characters that name something."""
_WHOLE: Final = 32
_DIGITS: Final = frozenset("0123456789abcdef")


def digits_of(text: str) -> str | None:
    """The hexadecimal digits of an id or of a part of one, without dashes; None: it is neither."""
    digits = text.strip().lower().replace("-", "")
    return digits if LEAST <= len(digits) <= _WHOLE and set(digits) <= _DIGITS else None


def span_of(digits: str) -> tuple[str, str]:
    """The first and the last id that begin so."""
    return digits.ljust(_WHOLE, "0"), digits.ljust(_WHOLE, "f")
