"""The "did you mean" part of an error message."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, options: Iterable[str]) -> str | None:
    """The option that is most like `word`, if any is alike."""
    by_folded = {option.casefold(): option for option in sorted(options)}
    found = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`did you mean `x`?`, or the (first ten) options when nothing is alike, or an empty string without options."""
    names = sorted(options)
    match = closest(word, names)
    if match is not None:
        return f"did you mean `{match}`?"
    shown = ", ".join(f"`{name}`" for name in names[:10])
    return f"use one of {shown}{', …' if len(names) > 10 else ''}." if names else ""
