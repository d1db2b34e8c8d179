"""Log lines: a constant event name, then its facts; the code is the stable number of the event."""

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Final, Literal

from orchestrator.core.facts import Dispatch
from orchestrator.core.happened import Step
from orchestrator.observe.correlation import correlate
from orchestrator.observe.formats import JsonFormatter, LineFormatter, PlainFormatter
from orchestrator.observe.handler import Stderr

Form = Literal["auto", "line", "json"]

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

_NOISY: Final = ("celery.worker.strategy", "celery.app.trace", "celery.bootsteps", "alembic", "redis")


_SPEAKING: Final = frozenset({"orchestrator", "celery", "kombu"})


def setup(level: int | str, form: Form = "auto", *, burst: int = 0, worker: str = "") -> None:
    """Log to stderr, unless the program around us has set up the root logger already; its plain formatters show our
    facts then. A formatter of another class, or one that names them itself, is left as it is. All of them are given
    the keys of the run on what is logged inside a step.

    `form`: `auto` is `line` on a terminal, `json` elsewhere. `burst`: see `Stderr`. `worker`: whose process this is.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(Stderr())
    for one in root.handlers:
        if isinstance(one, Stderr):
            one.burst = burst
            one.setFormatter(_formatter(form, worker))
            root.setLevel(level)
        elif type(one.formatter) in (type(None), logging.Formatter) and not _names_facts(one.formatter):
            one.setFormatter(PlainFormatter(one.formatter))
    correlate(root.handlers)
    for name in _NOISY:  # they repeat, with less, what our own lines say
        logging.getLogger(name).setLevel(logging.WARNING)
    revive()


def _formatter(form: Form, worker: str) -> logging.Formatter:
    if form == "line" or (form == "auto" and sys.stderr.isatty()):
        return LineFormatter("%(asctime)s %(levelname)s [%(process)d] %(message)s")
    logging.captureWarnings(True)  # they would be lines of text among the objects
    return JsonFormatter(worker)


def tell_suppressed() -> None:
    """At the end of a process that does not end as Python's do."""
    for one in logging.getLogger().handlers:
        if isinstance(one, Stderr):
            with one.lock:  # type: ignore[union-attr]  # every handler has one
                one.tell_suppressed()


def _names_facts(formatter: logging.Formatter | None) -> bool:
    return "run_id" in (getattr(formatter, "_fmt", None) or "")


def revive() -> None:
    """Let our loggers and Celery's speak again: a module of flows that calls `dictConfig` disables every logger that
    exists, unless it says otherwise."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in _SPEAKING and isinstance(logger, logging.Logger):
            logger.disabled = False


def line(
    level: int, event: str, facts: Mapping[str, Any], traceback: str | None = None, exc_type: str | None = None
) -> None:
    """A line of ours. The traceback is text already, cut and safe to print; every formatter shows it. Whoever puts
    facts together asks before whether anybody wants them."""
    record = log.makeRecord(log.name, level, __file__, 0, event, (), None, extra=facts)
    record.exc_text = traceback
    if exc_type is not None:
        record.exc_type = exc_type
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
