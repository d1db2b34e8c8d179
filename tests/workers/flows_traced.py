"""Flows whose spans are looked at."""

import logging
import os
import signal
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator import (
    Context,
    Every,
    NotYet,
    Poll,
    Schedule,
    Webhook,
    block,
    each,
    env,
    flow,
    sleep,
    start_run,
    step,
    wait_for_signal,
    when,
)

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


def flush() -> None:
    """Have the spans of this process sent now."""
    from opentelemetry import trace

    provider: Any = trace.get_tracer_provider()
    provider.force_flush()


@step
def plus(number: int) -> int:
    own("work")
    logging.getLogger("library").warning("said inside")
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


@block
def in_item(number: int) -> int:
    return plus.options(key="second")(plus.options(key="first")(number))


@step
def mended(number: int) -> int:
    if not Path(os.environ["TEST_EFFECTS"]).with_name("mended").exists():
        raise ValueError("nobody has mended it")
    return number


@step
def both(one: int, other: int) -> int:
    return one + other


@step(poll=Poll(every="1s", timeout="1m"))
def pollster(ctx: Context, number: int) -> int:
    assert ctx.poll is not None
    if ctx.poll.number == 1:
        raise NotYet("once more")
    return number


@step
def deadly(ctx: Context, number: int) -> int:
    """Its first attempt takes the process along, when what that has in hand was sent."""
    own("before the end")
    marker = Path(os.environ["TEST_EFFECTS"]).with_name(f"deadly {ctx.run_id}")
    if not marker.exists():
        marker.touch()
        flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@flow
def traced_chain(number: int) -> int:
    return later(plus(number))


@flow
def traced_retry(number: int) -> int:
    return plus(shaky(number))


class Answer(BaseModel):
    """What the signal says."""

    yes: bool


@step
def told(answer: Answer, number: int) -> int:
    return number


@flow
def traced_below(number: int) -> int:
    return plus(deadly(number))


@flow(webhooks=[Webhook("traced", scheme="generic", secret=env("WEBHOOK_TEST_SECRET"), input={"number": 1})])
def traced_all(number: int) -> int:
    """A retry, a crash and a run of another flow."""
    return plus(traced_below(shaky(number)))


@flow
def traced_join(number: int) -> int:
    one, other = plus.options(key="one")(number), plus.options(key="other")(number)
    return both(one, other)


@flow
def traced_alone(number: int) -> str:
    """Lets another run go."""
    return start_run(traced_join, plus(number))


@flow
def traced_signal(number: int) -> int:
    return told(wait_for_signal(Answer, name="answer"), number)


@flow
def traced_when(number: int) -> int | None:
    with when(number > 1):
        plus.options(key="never")(number)
    return pollster(number)


@flow
def traced_long(number: int) -> int:
    pause = sleep("2s", after=[plus(number)])
    return plus.options(key="last", after=[pause])(number)


@flow(schedules=[Schedule(Every("365d"), key="yearly", input={"number": 1})])
def traced_yearly(number: int) -> int:
    return plus(number)


@flow
def traced_loops(numbers: list[int]) -> list[int]:
    """Of single steps, and of several for each item."""
    return each(in_item, each(plus, numbers))


@flow
def traced_mended(number: int) -> int:
    return plus(mended(number))


@flow
def traced_crash(number: int) -> int:
    return plus(deadly(number))
