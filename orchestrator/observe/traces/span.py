"""What is known of a span before it is made; no SDK here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from orchestrator.core.happened import Run, Step
from orchestrator.core.trace import Trace

TRIGGER: Final = "flow.trigger"
STEP: Final = "flow.step"
EXECUTE: Final = "flow.runtime.execute"
POLL: Final = "flow.step.poll"
WHEN: Final = "flow.step.when"
RETRY: Final = "flow.step.retry"
RECEIVE: Final = "flow.webhook.receive"
DELIVER: Final = "flow.signal.deliver"
TICK: Final = "flow.schedule.tick"

Value = str | int | float | bool
Kind = Literal["internal", "consumer", "producer", "server"]


@dataclass(frozen=True, slots=True)
class Span:
    """A span with its place in its trace; times in nanoseconds since 1970. `error`: what went wrong, its type; None:
    nothing. `links`: other spans, by trace and span id."""

    name: str
    trace: Trace
    id: int
    parent: int | None
    began: int
    ended: int
    attributes: Mapping[str, Value]
    kind: Kind = "internal"
    error: str | None = None
    links: tuple[tuple[int, int], ...] = field(default=())


def of_run(run: Run, **more: Value | None) -> dict[str, Value]:
    """What every span of a run says. Never an input or an output."""
    told = {"floworch.run.id": str(run.run_id), "floworch.flow": run.flow, "floworch.trigger": run.trigger}
    return _known(told, more)


def of_step(step: Step, **more: Value | None) -> dict[str, Value]:
    """What every span of a step says."""
    told = {
        "floworch.run.id": str(step.run_id),
        "floworch.flow": step.flow,
        "floworch.step.key": step.step_key,
        "floworch.step.type": step.type,
        "floworch.queue": step.queue,
    }
    return _known(told, more)


def _known(told: Mapping[str, Value | None], more: Mapping[str, Value | None]) -> dict[str, Value]:
    named = {key if "." in key else f"floworch.{key}": value for key, value in more.items()}
    return {key: value for key, value in {**told, **named}.items() if value is not None}
