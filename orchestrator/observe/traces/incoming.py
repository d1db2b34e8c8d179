"""The trace in which something is asked for, and what is kept of it with a run. Imports nothing of OpenTelemetry."""

import json
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Final, Protocol
from uuid import UUID

from orchestrator.core.trace import Trace, of_headers, parent_of

came: Final[ContextVar[Mapping[str, str]]] = ContextVar("came", default={})  # noqa: B039  # nobody writes to it
"""The trace of the request that is answered here, where its headers are not at hand."""


class Decider(Protocol):
    """Whoever makes the spans of this process."""

    def samples(self, trace: Trace) -> bool:
        """Whether a run is recorded."""

    @property
    def is_ours(self) -> bool:
        """Whether its spans have the ids that we work out."""


_decider: Decider | None = None


def decide_by(decider: Decider | None) -> None:
    """From now on it decides whether runs that are accepted here are recorded; None: whoever works on them does."""
    global _decider
    _decider = decider


def decides() -> bool:
    """Whether that is decided here."""
    return _decider is not None


def current() -> Mapping[str, str]:
    """The trace of the span that is current here, or of the request that is answered; empty: there is none."""
    api = sys.modules.get("opentelemetry.trace")
    if api is not None:
        found = api.get_current_span().get_span_context()
        if found.is_valid:
            state = found.trace_state.to_header()
            parent = parent_of(found.trace_id, found.span_id, sampled=found.trace_flags.sampled)
            return {"traceparent": parent, **({"tracestate": state} if state else {})}
    return came.get()


def kept(run_id: UUID, asked_in: Mapping[str, str]) -> str | None:
    """What is kept with a run that is asked for in this trace, as JSON."""
    if _decider is None:
        return json.dumps(dict(asked_in)) if asked_in else None
    trace = Trace.of(run_id, asked_in)
    return json.dumps(trace.decided(_decider.samples(trace)))


def received(run_id: UUID, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> str | None:
    """The same for a run that a webhook's delivery starts: it is below the span of that, if there is one."""
    asked_in = current() or of_headers(headers)
    trace = Trace.of(run_id, asked_in)
    if _decider is None or not _decider.is_ours or not _decider.samples(trace):
        return kept(run_id, asked_in)
    return json.dumps({"traceparent": parent_of(trace.trace_id, trace.received, sampled=True)})
