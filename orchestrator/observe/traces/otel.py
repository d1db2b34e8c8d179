"""The one module that imports OpenTelemetry's SDK: a provider of our own, whose spans have the ids that we work out.

It is made after the fork, like all that has threads. Where the program around us has set up a provider, that one is
used: its spans have ids of its own, so they are children of what is kept with the run, and nothing hangs below a step.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace.span import TraceState

from orchestrator.core.trace import Trace, spread
from orchestrator.observe.traces.span import TRIGGER, Span

FLUSH_S: Final = 2.0
"""Seconds that a process which ends waits for its last spans to be taken."""
_KINDS: Final = {
    "internal": api.SpanKind.INTERNAL,
    "consumer": api.SpanKind.CONSUMER,
    "producer": api.SpanKind.PRODUCER,
    "server": api.SpanKind.SERVER,
}
_SAMPLED: Final = api.TraceFlags(api.TraceFlags.SAMPLED)
_NOT: Final = api.TraceFlags(api.TraceFlags.DEFAULT)


class _Given(threading.local):
    """The ids of the span that this thread is about to make; 0: any."""

    trace_id = 0
    span_id = 0


class _Ids(RandomIdGenerator):
    """Those that were given, once; else random ones, for spans of the user's."""

    def __init__(self, given: _Given) -> None:
        self._given = given

    def generate_span_id(self) -> int:
        span_id, self._given.span_id = self._given.span_id, 0
        return span_id or super().generate_span_id()

    def generate_trace_id(self) -> int:
        trace_id, self._given.trace_id = self._given.trace_id, 0
        return trace_id or super().generate_trace_id()


class _Decided(Sampler):
    """Ours are made when their run is recorded, and spans of the user's below them follow; whatever else this process
    traces is for the sampler that is configured."""

    def __init__(self, given: _Given, others: Sampler) -> None:
        self._given = given
        self.others = others

    def should_sample(
        self,
        parent_context: contexts.Context | None,
        trace_id: int,
        name: str,
        kind: api.SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = api.get_current_span(parent_context).get_span_context()
        if self._given.span_id:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, parent.trace_state)
        if parent.is_valid and not parent.is_remote:
            decision = Decision.RECORD_AND_SAMPLE if parent.trace_flags.sampled else Decision.DROP
            return SamplingResult(decision, attributes, parent.trace_state)
        return self.others.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"DecidedByRun{{{self.others.get_description()}}}"


class Provider:
    """Makes spans of what is known of them, and sends them."""

    def __init__(self, instance: str, *, public: bool) -> None:
        """`public`: code of the user's runs in this process, and finds it as the global provider."""
        self._given = _Given()
        known = api.get_tracer_provider()
        self._own: TracerProvider | None = None
        if not isinstance(known, api.ProxyTracerProvider) and not isinstance(known, _OurProvider):
            self._sampler: Sampler | None = getattr(known, "sampler", None)
            self._tracer = known.get_tracer("orchestrator")
            return
        self._own = _OurProvider(_resource(instance), self._given)
        self._sampler = self._own.sampler.others
        self._own.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._own.get_tracer("orchestrator")
        if public and isinstance(known, api.ProxyTracerProvider):
            api.set_tracer_provider(self._own)

    @property
    def is_ours(self) -> bool:
        """Whether its spans have the ids that we work out."""
        return self._own is not None

    def samples(self, trace: Trace) -> bool:
        """Whether a run is recorded: as it was decided, or as everybody decides alike."""
        if trace.sampled is not None:
            return trace.sampled
        if self._sampler is None:
            return True
        came = contexts.Context()
        if trace.unsampled:
            came = _context(trace.trace_id, trace.root, sampled=False)
        found = self._sampler.should_sample(came, spread(trace.first or trace.trace_id), TRIGGER).decision
        return found is Decision.RECORD_AND_SAMPLE

    def begin(self, span: Span) -> api.Span:
        """It, running."""
        above = contexts.Context() if span.parent is None else _context(span.trace.trace_id, span.parent)
        if self.is_ours:
            self._given.span_id = span.id
            self._given.trace_id = span.trace.trace_id if span.parent is None else 0
        elif span.parent is not None:
            above = _context(span.trace.trace_id, span.trace.parent or span.trace.root)
        links = [api.Link(_place(*link)) for link in span.links]
        attributes: Any = span.attributes
        return self._tracer.start_span(span.name, above, _KINDS[span.kind], attributes, links, span.began)

    def end(self, running: api.Span, span: Span) -> None:
        """It has ended, as `span` says; what the user set on it stays."""
        if running.is_recording():
            running.update_name(span.name)
            running.set_attributes(span.attributes)
            for link in span.links:
                running.add_link(_place(*link))
            if span.error is not None:
                running.set_status(api.Status(api.StatusCode.ERROR, span.error))
                running.set_attribute("error.type", span.error)
        running.end(span.ended)

    def emit(self, span: Span) -> None:
        """A span that has ended."""
        running = self.begin(span)
        if span.error is not None:
            running.set_status(api.Status(api.StatusCode.ERROR, span.error))
            running.set_attribute("error.type", span.error)
        running.end(span.ended)

    def unrecorded(self, trace: Trace, span_id: int) -> api.Span:
        """Stands for a span of a run that is not recorded: what is below it is not, either."""
        return api.NonRecordingSpan(_place(trace.trace_id, span_id, sampled=False, remote=False))

    def close(self) -> None:
        """Send what is left, for `FLUSH_S` at most. A collector that hangs would hold the process for a minute."""
        if self._own is None:
            return
        flushing = threading.Thread(target=self._own.force_flush, name="spans-flush", daemon=True)
        flushing.start()
        flushing.join(FLUSH_S)


class _OurProvider(TracerProvider):
    """So that a child knows it as the one of its parent."""

    is_orchestrators = True
    sampler: _Decided

    def __init__(self, resource: Resource, given: _Given) -> None:
        # `shutdown_on_exit` would wait for the collector as long as the exporter does.
        super().__init__(resource=resource, id_generator=_Ids(given), shutdown_on_exit=False)
        self.sampler = _Decided(given, self.sampler)


@contextlib.contextmanager
def current(span: api.Span) -> Iterator[None]:
    """Spans that are made in this block, in coroutines and threads that take its context along too, are below it."""
    token = contexts.attach(api.set_span_in_context(span))
    try:
        yield
    finally:
        contexts.detach(token)


def current_ids() -> tuple[str, str] | None:
    """The trace and the span that run here, in hexadecimal; None: there is none."""
    place = api.get_current_span().get_span_context()
    return (f"{place.trace_id:032x}", f"{place.span_id:016x}") if place.is_valid else None


def _resource(instance: str) -> Resource:
    """As OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, with a name of ours where they give none."""
    found = Resource.create({SERVICE_INSTANCE_ID: instance})
    if str(found.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: "orchestrator"}))
    return found


def _place(trace_id: int, span_id: int, *, sampled: bool = True, remote: bool = True) -> api.SpanContext:
    return api.SpanContext(trace_id, span_id, is_remote=remote, trace_flags=_SAMPLED if sampled else _NOT)


def _context(trace_id: int, span_id: int, *, sampled: bool = True) -> contexts.Context:
    return api.set_span_in_context(api.NonRecordingSpan(_place(trace_id, span_id, sampled=sampled)), contexts.Context())
