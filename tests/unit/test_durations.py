"""Lengths of time: every spelling means one timedelta, and everything else is refused with the same error."""

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orchestrator.core.durations import Duration, format_duration, parse_duration
from orchestrator.errors import DurationInvalid, UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("2d", 172_800),
        ("90", 90),
        ("0", 0),
        ("PT90S", 90),
        ("P1DT1H", 90_000),
        (15, 15),
        (0.25, 0.25),
        (timedelta(minutes=1), 60),
        (" 5s ", 5),
    ],
)
def test_every_spelling_is_understood(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "abc", "5 minutes", "-5s", "1x", "5s!", "s", "PT", "P-1D", "9" * 90 + "s", "9" * 5000, "9e9d", "٥s"),
        *(-1, True, None, [], float("nan"), float("inf"), 1e300, timedelta(seconds=-1), timedelta.max, b"5s"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(value):
    with pytest.raises(DurationInvalid, match=r"Fix: write `30s`"):
        parse_duration(value)


def test_the_error_is_a_usage_error_that_pydantic_collects():
    with pytest.raises(UsageError):
        parse_duration("x")
    with pytest.raises(ValidationError, match="not a length of time"):
        TypeAdapter(Duration).validate_python("x")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30_000)))
def test_the_short_form_is_exact(value):
    assert parse_duration(format_duration(value)) == value


@given(st.text(max_size=20) | st.floats() | st.integers())
def test_parsing_gives_a_length_or_its_own_error(value):
    with suppress(DurationInvalid):
        assert parse_duration(value) >= timedelta(0)


def test_the_short_form_reads_well():
    assert format_duration(timedelta(hours=1, minutes=30)) == "1h30m"
    assert format_duration(timedelta(0)) == "0s"
    assert format_duration(timedelta(milliseconds=1500)) == "1s500ms"
    assert format_duration(timedelta(seconds=-5)) == "-5s"
