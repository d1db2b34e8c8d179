"""A line of JSON is one, whatever a record holds, and its keys are never taken over by facts."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestrator.core.happened import Failed, Succeeded
from orchestrator.observe.formats import JsonFormatter
from orchestrator.observe.lines import LogLines
from orchestrator.observe.logs import line, log
from tests.unit.attempts import failure, leased

KEYS = ("timestamp", "level", "logger", "event", "code", "run_id", "flow", "step_key", "attempt", "worker", "pid")


def record(name: str = "shop", message: Any = "sold", *args: Any, **facts: Any) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, "", 0, message, args, None)
    made.__dict__.update(facts)
    return made


def written(made: logging.LogRecord, worker: str = "") -> dict[str, Any]:
    text = JsonFormatter(worker).format(made)
    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text, parse_constant=pytest.fail)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def ours() -> Iterator[list[dict[str, Any]]]:
    """What our own lines are."""
    found: list[dict[str, Any]] = []

    class Reads(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(written(record, "host/1/ab"))

    handler, level = Reads(), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield found
    log.removeHandler(handler)
    log.setLevel(level)


def test_the_keys_stand_first_and_in_order(ours: list[dict[str, Any]]) -> None:
    LogLines().succeeded(Succeeded(leased(), 0.25))
    (found,) = ours
    assert list(found) == [*KEYS, "ms"]
    assert (found["event"], found["code"], found["level"], found["ms"]) == ("step.succeeded", 2001, "INFO", 250.0)
    assert (found["run_id"], found["flow"], found["step_key"], found["attempt"]) == (str(UUID(int=7)), "demo", "a", 1)
    assert found["worker"] == "host/1/ab"


def test_a_failed_attempt_has_the_type_of_its_error_and_the_traceback(ours: list[dict[str, Any]]) -> None:
    LogLines().failed(Failed(leased(), failure(ValueError("bad")), "failed", 0.1))
    (found,) = ours
    assert found["exc_type"] == "ValueError"
    assert "Traceback" in found["exc"]
    assert list(found)[: len(KEYS) + 2] == [*KEYS, "exc_type", "exc"]


def test_an_exception_of_others_has_them_too() -> None:
    try:
        raise KeyError("é")
    except KeyError:
        made = record()
        made.exc_info = sys.exc_info()
    found = written(made)
    assert found["exc_type"] == "KeyError"
    assert found["exc"].endswith("KeyError: 'é'")


def test_the_time_is_utc_with_microseconds() -> None:
    made = record()
    found = written(made)["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found)
    told = datetime.fromisoformat(found)
    assert told.tzinfo == UTC
    assert abs(told.timestamp() - made.created) < 2e-6


def test_facts_never_replace_the_keys() -> None:
    own = {"timestamp": "never", "level": "huge", "logger": "x", "event": "y", "pid": -1, "worker": "z", "exc": "e"}
    found = written(record(**own, code=404, order=42), worker="host/1/ab")
    assert (found["level"], found["logger"], found["event"], found["worker"]) == ("INFO", "shop", "sold", "host/1/ab")
    assert found["pid"] > 0
    assert {f"fact_{key}": value for key, value in own.items()}.items() <= found.items()
    assert found["order"] == 42
    assert "code" not in found, "a code of others is not one of ours"
    assert found["fact_code"] == 404


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "means"),
    [
        (UUID(int=1), str(UUID(int=1))),
        (Path("/tmp"), "/tmp"),
        ({"deep": [1, None, UUID(int=1)]}, {"deep": [1, None, str(UUID(int=1))]}),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ([float("nan")], "[nan]"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (CIRCLE, "[[...]]"),
        (b"\x00\xff", "b'\\x00\\xff'"),
        ("a\nb\x1b[2J\u2028\x00", "a\nb\x1b[2J\u2028\x00"),
        ("\ud800", "\ud800"),
        pytest.param(10**5000, "<int: its text raised ValueError>", id="an integer of 5001 digits"),
        (Unspeakable(), "<Unspeakable: its text raised RuntimeError>"),
    ],
)
def test_whatever_a_fact_is_the_line_is_json(value: Any, means: Any) -> None:
    assert written(record(fact=value))["fact"] == means


@pytest.mark.parametrize(
    ("message", "args", "says"),
    [
        ("%d sold", ("x",), "%d sold [its arguments do not fit: TypeError]"),
        (Unspeakable(), (), "<Unspeakable: its text raised RuntimeError> [its arguments do not fit: RuntimeError]"),
        ({"a": 1}, (), "{'a': 1}"),
        ("a\nb", (), "a\nb"),
    ],
)
def test_whatever_a_message_is_the_line_is_json(message: Any, args: tuple[Any, ...], says: str) -> None:
    assert written(record("shop", message, *args))["event"] == says


def test_a_traceback_that_is_text_is_a_key(ours: list[dict[str, Any]]) -> None:
    line(logging.WARNING, "step.failed", {"code": 2002}, "Traceback: the end", "KeyError")
    assert (ours[0]["exc"], ours[0]["exc_type"]) == ("Traceback: the end", "KeyError")
