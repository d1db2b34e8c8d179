"""A filter for handlers: the keys of the run on every record that is made inside a step, whoever makes it."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from orchestrator.core.secrets import scrubbed
from orchestrator.observe.fields import STANDARD
from orchestrator.observe.scope import current, own

STEP_LOGGER: Final = "orchestrator.step"
"""Of `ctx.log`."""
_OURS: Final = "orchestrator."
_FORMAT: Final = logging.Formatter()

span_ids: Callable[[], tuple[str, str] | None] | None = None
"""Asked for the ids of the current span, as hexadecimal: trace, span. Set by whoever traces; None: nobody does."""


class StepFilter(logging.Filter):
    """Passes every record, and adds `run_id`, `flow`, `step_key` and `attempt` to those made inside a step, with
    `trace_id` and `span_id` where there is a span. Secrets that the step was given are taken out.

    It belongs on a handler: a filter on a logger does not see what loggers below it pass up. A fact of somebody else's
    that has one of these names stays as `fact_run_id`; a line of ours about a run says itself which.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true."""
        if span_ids is not None and (ids := span_ids()) is not None:
            _put(record, zip(("trace_id", "span_id"), ids, strict=True))
        ours = record.name.startswith(_OURS) and record.name != STEP_LOGGER
        scope = own() if ours else current()
        if scope is None:
            return True
        if not record.name.startswith(_OURS):
            _put(record, scope.keys.items())
        elif "run_id" not in record.__dict__:
            record.__dict__.update(scope.keys)
        if secrets := scope.secrets():
            _clean(record, secrets)
        return True


def _put(record: logging.LogRecord, keys: Iterable[tuple[str, object]]) -> None:
    """Twice does no harm: several handlers see one record."""
    facts = record.__dict__
    for key, value in keys:
        theirs = facts.get(key, value)
        if theirs != value:
            facts[f"fact_{key}"] = theirs
        facts[key] = value


def _clean(record: logging.LogRecord, secrets: set[str]) -> None:
    """Only what has a secret is changed: handlers of others may group by the text without its arguments."""
    try:
        if isinstance(record.msg, dict) and not record.args:  # structlog's
            record.msg = _cleaned(record.msg, secrets)
        elif (clean := scrubbed(said := record.getMessage(), secrets)) != said:
            record.msg, record.args = clean, ()
        facts = {key: value for key, value in record.__dict__.items() if key not in STANDARD}
        record.__dict__.update(_cleaned(facts, secrets))
        trace = record.exc_text or (_FORMAT.formatException(record.exc_info) if record.exc_info else "")
        if (clean := scrubbed(trace, secrets)) != trace:
            record.exc_info, record.exc_text = None, clean
    except Exception:  # its arguments do not fit, or a str() raised: whoever formats it finds out
        record.msg, record.args = "a record that cannot be formatted, in a step with secrets", ()
        record.exc_info = None


def _cleaned(facts: Mapping[str, Any], secrets: set[str]) -> dict[str, Any]:
    return {
        key: value if (clean := scrubbed(text := str(value), secrets)) == text else clean
        for key, value in facts.items()
    }


def correlate(handlers: Iterable[logging.Handler]) -> None:
    """Give each the filter, unless it has it."""
    for one in handlers:
        if not any(isinstance(known, StepFilter) for known in one.filters):
            one.addFilter(StepFilter())
