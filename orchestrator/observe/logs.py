"""Log lines: a constant event name, then its facts as `key=value`; the code is the stable number of the event."""

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core.facts import Dispatch
from orchestrator.core.happened import Step

log = logging.getLogger("orchestrator.worker")

RUN_ACCEPTED: Final = 1000
RUN_ENDED: Final = 1001
STEP_STARTED: Final = 2000
STEP_SUCCEEDED: Final = 2001
STEP_FAILED: Final = 2002
STEP_SKIPPED: Final = 2003
STEP_POLLED: Final = 2004
WHEN_FAILED: Final = 2005
KEPT_INSIDE: Final = 2006
DISPATCHED: Final = 3000
SUPPRESSED: Final = 3001
STALE: Final = 3002
LEASE_EXPIRED: Final = 3003
WEBHOOK_RECEIVED: Final = 4000
WEBHOOK_SIGNATURE: Final = 4001
WEBHOOK_REPLAY: Final = 4002
WEBHOOK_RATE: Final = 4003
WEBHOOK_SIZE: Final = 4004
WEBHOOK_ADDRESS: Final = 4005
WEBHOOK_SECRET: Final = 4006
WEBHOOK_ACCEPTED: Final = 4007
WEBHOOK_NOT_STARTED: Final = 4008
WEBHOOK_NOT_KEPT: Final = 4009
WEBHOOK_PREVIOUS_KEY: Final = 4010

_STANDARD: Final = frozenset(
    {
        *logging.LogRecord("", 0, "", 0, "", (), None).__dict__,
        *("message", "asctime", "taskName", "data"),
        "color_message",  # uvicorn's: the same once more
    }
)
_NOISY: Final = ("celery.worker.strategy", "celery.app.trace", "celery.bootsteps", "alembic", "redis")


_SPEAKING: Final = frozenset({"orchestrator", "celery", "kombu"})


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
        return _with_facts(super().format(record), record)


class _Plain(logging.Formatter):
    """A formatter of the program around us, with the facts behind our own lines: a plain one shows none of them."""

    def __init__(self, theirs: logging.Formatter | None) -> None:
        super().__init__()
        self._theirs = theirs or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        line = self._theirs.format(record)
        return _with_facts(line, record) if record.name.partition(".")[0] == "orchestrator" else line


def _with_facts(line: str, record: logging.LogRecord) -> str:
    facts = [f"{key}={_short(value)}" for key, value in record.__dict__.items() if key not in _STANDARD]
    if not facts:
        return line
    head, newline, rest = line.partition("\n")
    return f"{head} {' '.join(facts)}{newline}{rest}"


def _short(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or "=" in text or not text.isprintable() or not text else text


def setup(level: int | str) -> None:
    """Log to stderr, unless the program around us has set up the root logger already; its plain formatters show our
    facts then. A formatter of another class, or one that names them itself, is left as it is."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s [%(process)d] %(message)s"))
        root.addHandler(handler)
        root.setLevel(level)
    for one in root.handlers:
        if type(one.formatter) in (type(None), logging.Formatter) and not _names_facts(one.formatter):
            one.setFormatter(_Plain(one.formatter))
    for name in _NOISY:  # they repeat, with less, what our own lines say
        logging.getLogger(name).setLevel(logging.WARNING)
    revive()


def _names_facts(formatter: logging.Formatter | None) -> bool:
    return "run_id" in (getattr(formatter, "_fmt", None) or "")


def revive() -> None:
    """Let our loggers and Celery's speak again: a module of flows that calls `dictConfig` disables every logger that
    exists, unless it says otherwise."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in _SPEAKING and isinstance(logger, logging.Logger):
            logger.disabled = False


def line(level: int, event: str, facts: Mapping[str, Any], traceback: str | None = None) -> None:
    """A line of ours. The traceback is text already, cut and safe to print; every formatter shows it. Whoever puts
    facts together asks before whether anybody wants them."""
    record = log.makeRecord(log.name, level, __file__, 0, event, (), None, extra=facts)
    record.exc_text = traceback
    log.handle(record)


def quiet_warnings() -> None:
    """Drop warnings about choices we made on purpose. Celery moves its own filters to the front, so call after it."""
    from celery.exceptions import CPendingDeprecationWarning

    # Good work is not killed when the broker connection is lost: the claim rejects the duplicate.
    warnings.filterwarnings("ignore", message="(?s).*worker_cancel_long_running_tasks", category=Warning)
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    # JSON only is accepted, so root has nothing to fear from a message; containers run as root.
    warnings.filterwarnings("ignore", message="(?s).*superuser privileges", category=Warning)


def about(step: Step, code: int, **facts: object) -> Mapping[str, Any]:
    """The facts every line about an attempt carries."""
    return {
        "code": code,
        "run_id": step.run_id,
        "flow": step.flow,
        "step_key": step.step_key,
        "attempt": step.attempt,
        **facts,
    }


def about_dispatch(dispatch: Dispatch, code: int, **facts: object) -> Mapping[str, Any]:
    """The facts of a line about a message; it knows no attempt yet."""
    return {
        "code": code,
        "run_id": dispatch.run_id,
        "flow": dispatch.task.rpartition(".")[0],
        "step_key": dispatch.step_key,
        "dispatch": dispatch.number,
        **facts,
    }
