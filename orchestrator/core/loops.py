"""How large loops may be, and how long the keys of what runs inside of them."""

from collections.abc import Iterator, Sequence
from typing import Final

from orchestrator.core.problem import Problem

LOOP_LIMIT: Final = 100_000
"""Items of one loop, unless a setting says otherwise."""
MOST_LOOPS: Final = 5
"""That may stand inside each other."""
LONGEST_KEY: Final = 500
_INDEX: Final = len(str(9_999_999))


def key_problems(place: str, loops: Sequence[str], key: str) -> Iterator[Problem]:
    """Whether the key of a row would be too long: that of a step inside of these loops, with the index of each item."""
    longest = sum(len(loop) + 1 + _INDEX + 1 for loop in loops) + len(key)
    if longest > LONGEST_KEY:
        why = f"its key may have {longest} characters, with those of the loops around it; at most {LONGEST_KEY} fit"
        yield Problem(place, why, f"shorten `{max((*loops, key), key=len)}`")
