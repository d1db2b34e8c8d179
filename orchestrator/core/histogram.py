"""Lengths of time, counted in buckets: what is kept of many, and what can be told from it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

BOUNDS_S: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 14_400.0, 86_400.0)
"""Seconds at which a bucket ends and the next one begins; never changed, for the ledger holds counts by them."""
BUCKETS: Final = len(BOUNDS_S) + 1
"""The last one has no end."""


def quantile(counts: Sequence[int], part: float) -> float | None:
    """The length in seconds that this part (0 < part <= 1) of all does not exceed, as far as the buckets tell: within
    one, lengths are taken as evenly spread. Beyond the last bound it is that bound. None: there are none."""
    total = sum(counts)
    if not total:
        return None
    left = part * total
    for count, (low, high) in zip(counts, pairwise((0.0, *BOUNDS_S)), strict=False):
        if count and left <= count:
            return low + (high - low) * left / count
        left -= count
    return BOUNDS_S[-1]


def added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """The counts of both."""
    return [a + b for a, b in zip(one, other, strict=True)]
