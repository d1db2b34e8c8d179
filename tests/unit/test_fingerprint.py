"""Which errors are alike."""

import json

import pytest

from orchestrator.core.facts import StepError
from orchestrator.core.fingerprint import fingerprint, is_fingerprint, told_apart
from orchestrator.workers.run.errors_text import own_frame, step_error


def of(message: str, type_: str = "ValueError", frame: str | None = "pay.py charge") -> str:
    return fingerprint(type_, message, frame)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 is gone", "order 18 is gone"),
        ("no user 'ann' in \"db\"", "no user 'bob' in \"db2\""),
        ("run 0192f3a1-7c4e-7000-8000-00000000000a failed", "run 0192f3a1-aaaa-7000-8000-00000000000b failed"),
        ("key `a b` is  unknown", "key `c` is\nunknown"),
        ("x" * 2000 + "a", "x" * 2000 + "b"),
    ],
)
def test_ids_numbers_and_quoted_names_do_not_tell_errors_apart(one: str, other: str) -> None:
    assert of(one) == of(other)
    assert is_fingerprint(of(one))


def test_type_words_and_place_tell_errors_apart() -> None:
    found = {of("a is gone"), of("b is gone"), of("a is gone", "KeyError"), of("a is gone", frame="pay.py refund")}
    assert len(found) == 4


def raises(depth: int) -> None:
    if depth:
        raises(depth - 1)
    json.loads("{")


def test_the_place_is_the_innermost_function_of_the_users_own() -> None:
    with pytest.raises(ValueError, match="property name") as caught:
        raises(2)
    assert own_frame(caught.value) == "test_fingerprint.py raises"
    assert step_error(caught.value).fingerprint == fingerprint(
        "json.decoder.JSONDecodeError", str(caught.value), "test_fingerprint.py raises"
    )
    assert own_frame(ValueError("never raised")) == ""


def test_a_runs_error_is_kept_without_its_fingerprint() -> None:
    error = StepError("E", "no", None, "a.py f")
    facts = {"step": "a", "type": "E", "message": "no"}
    assert told_apart({**facts, "fingerprint": error.fingerprint}) == (facts, error.fingerprint)
    assert told_apart({**facts}) == (facts, fingerprint("E", "no", None))
    assert told_apart(None) == (None, None)
