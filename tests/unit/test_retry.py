"""Back-off: exponential with full jitter and a cap, or as it is written."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.core.manifest import Backoff, Retry
from orchestrator.core.retry import delay

S = timedelta(seconds=1)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (1000, 300)])
def test_the_ceiling_doubles_up_to_the_cap(failures, seconds):
    assert delay(Backoff.parse("1s..5m"), failures, 1.0) == seconds * S


@given(st.integers(-5, 10**9), st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_from_zero_to_the_ceiling(failures, random01):
    backoff = Backoff.parse("2s..1m")
    pause = delay(backoff, failures, random01)
    assert timedelta(0) <= pause <= timedelta(minutes=1)
    assert abs(pause - random01 * delay(backoff, failures, 1.0)) <= timedelta(microseconds=1)


def test_a_list_is_used_one_after_the_other_and_the_last_repeats():
    backoff = Backoff.parse(["1s", "10s", 60])
    assert [delay(backoff, n, 0.123) for n in (1, 2, 3, 4, 99)] == [S, 10 * S, 60 * S, 60 * S, 60 * S]


def test_one_duration_is_a_constant_pause():
    assert delay(Backoff.parse("5s"), 7, 0.5) == 5 * S


def test_the_default_is_one_second_to_five_minutes():
    assert Retry().max_attempts == 1
    assert Backoff() == Backoff.parse("1s..5m")
    assert Backoff.parse("1s..5m").model_dump(mode="json")["cap"] == "PT5M"


@pytest.mark.parametrize(
    "wrong", ["5m..1s", "x..1s", "", [], ["x"], "0s..5s", {"first": "1s", "delays": ["1s"]}, 5, {"frist": "1s"}]
)
def test_a_wrong_back_off_is_refused(wrong):
    with pytest.raises(ValidationError):
        Backoff.parse(wrong)
