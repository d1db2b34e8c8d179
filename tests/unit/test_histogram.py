"""What can be told of lengths of time that were counted in buckets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.histogram import BOUNDS_S, BUCKETS, added, quantile


def counts(**at: int) -> list[int]:
    return [at.get(f"b{bucket}", 0) for bucket in range(BUCKETS)]


@pytest.mark.parametrize(
    ("found", "part", "length_s"),
    [
        (counts(), 0.5, None),
        (counts(b0=4), 0.5, 0.005),
        (counts(b4=1), 1.0, 1.0),
        (counts(b4=1, b5=1), 0.5, 1.0),
        (counts(b4=10, b7=10), 0.75, 20.0),
        (counts(b14=3), 0.5, 86_400.0),
    ],
)
def test_a_quantile_lies_in_the_bucket_that_holds_it(found: list[int], part: float, length_s: float | None) -> None:
    assert quantile(found, part) == (None if length_s is None else pytest.approx(length_s))


@given(st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS), st.floats(0.01, 1), st.floats(0.01, 1))
def test_quantiles_rise_and_stay_within_the_bounds(found: list[int], one: float, other: float) -> None:
    low, high = (quantile(found, part) for part in sorted((one, other)))
    assert (low is None) == (high is None) == (sum(found) == 0)
    if low is not None and high is not None:
        assert 0 <= low <= high <= BOUNDS_S[-1]
    assert quantile(added(found, found), one) == (None if low is None else pytest.approx(quantile(found, one)))
