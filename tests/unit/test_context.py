"""What a handler is given, and what it may say by it."""

import logging
import pickle
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from orchestrator import Context, RetryAfter
from orchestrator.errors import DurationInvalid
from orchestrator.ledger.value_cache import ValueCache
from orchestrator.observe import logs
from orchestrator.observe.formats import LineFormatter
from orchestrator.workers.run.errors_text import step_error


@pytest.mark.parametrize("value", [0, 1, 0.5, -3, 10**300])
def test_a_finite_number_is_progress(value: float) -> None:
    context = Context()
    context.progress(value, value, "a note")
    assert context.signals.progress is not None
    assert context.signals.progress.done == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_a_number_that_is_not_finite_is_refused_where_it_is_reported(value: float) -> None:
    with pytest.raises(ValueError, match="done is not a finite number"):
        Context().progress(value)
    with pytest.raises(ValueError, match="total is not a finite number"):
        Context().progress(1, value)


@pytest.mark.parametrize("value", [Decimal("0.5"), {1}, "1", True, None])
def test_what_is_no_number_of_json_is_refused_where_it_is_reported(value: Any) -> None:
    with pytest.raises(TypeError, match="Fix: give an int or a float"):
        Context().progress(value)
    with pytest.raises(TypeError, match="note is a"):
        Context().progress(1, note=5)  # type: ignore[arg-type]


def test_a_line_of_the_step_has_its_own_facts_and_those_of_the_attempt(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="orchestrator.step"):
        Context("r1", "charge", 2).log.info("charged", extra={"order": 42})
    (record,) = caplog.records
    line = LineFormatter("%(message)s").format(record)
    assert line.startswith("charged ")
    assert {"order=42", "run_id=r1", "step_key=charge", "attempt=2"} <= set(line.split())


def test_our_loggers_speak_again_after_a_dict_config_that_disabled_them() -> None:
    ours, other = logging.getLogger("orchestrator.worker"), logging.getLogger("a_module_of_the_user")
    try:
        ours.disabled = other.disabled = True
        logs.revive()
        assert not ours.disabled
        assert other.disabled, "what the user's configuration says of the user's loggers holds"
    finally:
        ours.disabled = other.disabled = False


def test_a_traceback_that_is_text_is_shown_below_its_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="orchestrator.worker"):
        logs.line(logging.WARNING, "step.failed", {"code": 2002}, "Traceback: the end")
    (record,) = caplog.records
    assert LineFormatter("%(message)s").format(record) == "step.failed code=2002\nTraceback: the end"


@pytest.mark.parametrize(
    ("delay", "means"),
    [(30, 30), (1.5, 1.5), ("2m", 120), ("7", 7), (timedelta(hours=1), 3600), (-5, 0), (timedelta(seconds=-1), 0)],
)
def test_retry_after_takes_every_length_of_time(delay: Any, means: float) -> None:
    """A time that has passed means at once: it is what `until - now` gives."""
    assert RetryAfter(delay).delay == timedelta(seconds=means)


@pytest.mark.parametrize("delay", ["soon", float("nan"), None, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after_refuses_what_is_no_length_of_time(delay: Any) -> None:
    with pytest.raises(DurationInvalid):
        RetryAfter(delay)


def test_retry_after_says_what_it_was_given_and_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(RetryAfter("90s", "429: too many requests")))
    assert (str(copy), copy.delay) == ("429: too many requests", timedelta(seconds=90))
    assert str(RetryAfter(90)) == "the step asked to be tried again after 1m30s"


@pytest.mark.parametrize("kind", [KeyError, SystemExit, RecursionError])
def test_an_exception_whose_text_fails_is_told_all_the_same(kind: type[BaseException]) -> None:
    class Shy(Exception):
        def __str__(self) -> str:
            raise kind("order")

        __repr__ = __str__

    told = step_error(Shy(1))
    assert told.type.endswith("Shy")
    assert f"str() of it raised {kind.__name__}" in told.message
    assert told.traceback


def test_values_are_read_once_and_the_longest_unused_ones_go_first() -> None:
    cache, read = ValueCache(limit=25), []

    def value_of(name: str) -> Any:
        return cache.get(name, lambda: read.append(name) or f"{name:10}")  # type: ignore[func-returns-value]

    for name in "a", "b", "a", "c", "a", "b":
        value_of(name)
    assert read == ["a", "b", "c", "b"]
    cache.get("long", lambda: "x" * 100)
    value_of("b")
    assert read == ["a", "b", "c", "b"], "what is longer than the limit is not kept, and frees nothing"
