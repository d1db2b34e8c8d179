"""Flows whose spans are looked at."""

import os
import signal
from pathlib import Path

from orchestrator import Context, flow, step

if url := os.environ.get("TEST_OWN_PROVIDER"):  # as a program does that traces already
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    theirs = TracerProvider(resource=Resource({"service.name": "theirs"}), shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    trace.set_tracer_provider(theirs)


def own(name: str) -> None:
    """A span of the user's, by the API as everybody uses it. Where nothing is traced it is none."""
    from opentelemetry import trace

    with trace.get_tracer("users").start_as_current_span(name):
        pass


@step
def plus(number: int) -> int:
    own("work")
    return number + 1


@step
async def later(number: int) -> int:
    own("async work")
    return number + 1


@step(retries=1, backoff=["0.2s"])
def shaky(ctx: Context, number: int) -> int:
    if ctx.span is not None:
        ctx.span.set_attribute("users.number", number)
    if ctx.attempt == 1:
        raise ValueError("not yet")
    return number


@step
def deadly(ctx: Context, number: int) -> int:
    """Its first attempt takes the process along."""
    own("before the end")
    marker = Path(os.environ["TEST_EFFECTS"]).with_name(f"deadly {ctx.run_id}")
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@flow
def traced_chain(number: int) -> int:
    return later(plus(number))


@flow
def traced_retry(number: int) -> int:
    return plus(shaky(number))


@flow
def traced_crash(number: int) -> int:
    return plus(deadly(number))
