"""How a record is written: as a line for people, or as an object of JSON for programs."""

import json
import logging
import math
import time
from typing import Any, Final

from orchestrator.observe.fields import STANDARD

_OWN: Final = ("code", "run_id", "flow", "step_key", "attempt")
_RESERVED: Final = frozenset(
    {"timestamp", "level", "logger", "event", "code", "worker", "pid", "exc_type", "exc", "stack"}
)
"""What a fact never replaces: it is there under `fact_` and its name."""
_PLAIN: Final = frozenset({str, int, bool, type(None)})


class LineFormatter(logging.Formatter):
    """`2026-01-31 12:00:00,123 INFO step.succeeded code=2001 run_id=… flow=… step_key=… attempt=1`."""

    _second: tuple[int, str] = (-1, "")
    """The last second that was written, as text: its local time is worked out once, not for each line."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        known, text = self._second
        if known != second:
            text = super().formatTime(record, "%Y-%m-%d %H:%M:%S")
            self._second = second, text
        return f"{text},{int(record.msecs):03d}"

    def format(self, record: logging.LogRecord) -> str:
        return with_facts(super().format(record), record)


class PlainFormatter(logging.Formatter):
    """A formatter of the program around us, with the facts behind our own lines: a plain one shows none of them."""

    def __init__(self, theirs: logging.Formatter | None) -> None:
        super().__init__()
        self._theirs = theirs or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        line = self._theirs.format(record)
        return with_facts(line, record) if record.name.partition(".")[0] == "orchestrator" else line


def with_facts(line: str, record: logging.LogRecord) -> str:
    """The first line, with the facts behind it; then the others."""
    facts = [f"{key}={_short(value)}" for key, value in record.__dict__.items() if key not in STANDARD]
    if not facts:
        return line
    head, newline, rest = line.partition("\n")
    return f"{head} {' '.join(facts)}{newline}{rest}"


def _short(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or "=" in text or not text.isprintable() or not text else text


class JsonFormatter(logging.Formatter):
    """An object on one line, in ASCII: `timestamp`, `level`, `logger`, `event`, then what is known of `code`, `run_id`,
    `flow`, `step_key`, `attempt`, `worker`, `pid`, `trace_id`, `span_id`, `exc_type`, `exc`; then the facts.

    Whatever a record holds, it makes a line: values that JSON cannot hold are texts in it.
    """

    def __init__(self, worker: str = "") -> None:
        """`worker`: which one this process is of."""
        super().__init__()
        self._worker = worker
        self._second: tuple[int, str] = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        facts = record.__dict__
        fields: dict[str, Any] = {
            "timestamp": self._timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "event": _message(record),
        }
        known = _OWN if record.name.partition(".")[0] == "orchestrator" else _OWN[1:]  # a code of others is not ours
        fields |= {key: facts[key] for key in known if facts.get(key) is not None}
        if self._worker:
            fields["worker"] = self._worker
        fields["pid"] = record.process
        fields |= {key: facts[key] for key in ("trace_id", "span_id") if key in facts}
        fields |= self._error(record)
        for key, value in facts.items():
            if key in STANDARD or fields.get(key) is value:
                continue
            fields[f"fact_{key}" if key in _RESERVED else key] = value
        return _encoded(fields)

    def _timestamp(self, created: float) -> str:
        second, micros = divmod(int(created * 1_000_000), 1_000_000)
        known, text = self._second
        if known != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text
        return f"{text}.{micros:06d}Z"

    def _error(self, record: logging.LogRecord) -> dict[str, str]:
        found: dict[str, str] = {}
        kind = record.exc_info[0] if record.exc_info else None
        name = kind.__name__ if kind is not None else getattr(record, "exc_type", None)
        if name is not None:
            found["exc_type"] = name
        if kind is not None and not record.exc_text and record.exc_info:
            record.exc_text = self.formatException(record.exc_info)  # as others do: each handler would do it again
        if record.exc_text:
            found["exc"] = record.exc_text
        if record.stack_info:
            found["stack"] = record.stack_info
        return found


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as exc:
        return f"{_text(record.msg)} [its arguments do not fit: {type(exc).__name__}]"


def _encoded(fields: dict[str, Any]) -> str:
    try:
        return _ENCODER.encode(fields)
    except Exception:  # a NaN, a key that is no text, a circle, an integer of a million digits
        return _ENCODER.encode({key: value if _fits(value) else _text(value) for key, value in fields.items()})


def _fits(value: object) -> bool:
    if type(value) is int:
        return value.bit_length() < 256
    return type(value) in _PLAIN or (type(value) is float and math.isfinite(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as exc:
        return f"<{type(value).__name__}: its text raised {type(exc).__name__}>"


_ENCODER: Final = json.JSONEncoder(allow_nan=False, default=_text)
