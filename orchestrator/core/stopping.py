"""How long a step may take of a worker that is told to stop. Pure."""

from collections.abc import Container, Iterator, Mapping
from datetime import timedelta
from typing import Final

from orchestrator.core.compare import Finding, Verdict
from orchestrator.core.durations import format_duration
from orchestrator.core.manifest import Manifest, StepDef

_MARGIN: Final = timedelta(seconds=5)
_SHARE: Final = 4


def margin(grace: timedelta) -> timedelta:
    """How long before its end what runs is handed back: five seconds, or a quarter of a short grace."""
    return min(_MARGIN, grace / _SHARE)


def outlasting(manifest: Manifest, grace: timedelta, handing_over: Container[str]) -> Iterator[Finding]:
    """The steps that may run longer than a worker waits for them. Types of steps that hand over are left out."""
    left = grace - margin(grace)
    for key, definition in _with_handlers(manifest.steps):
        if definition.type in handing_over:
            continue
        if definition.timeout is None:
            what = (
                f"step {key} has no timeout, so it may run longer than a stop grace of {format_duration(grace)} allows"
            )
            yield Finding(Verdict.WARN, what, "give it a `timeout`, or let it call ctx.hand_over() when ctx.stopping")
        elif definition.timeout > left:
            what = (
                f"step {key} may run for {format_duration(definition.timeout)} (its timeout), and a worker with a stop "
                f"grace of {format_duration(grace)} hands back what runs after {format_duration(left)}"
            )
            fix = "let it call ctx.hand_over() when ctx.stopping, shorten its timeout, or raise the grace"
            yield Finding(Verdict.BREAK, what, fix)


def _with_handlers(steps: Mapping[str, StepDef], above: str = "") -> Iterator[tuple[str, StepDef]]:
    for key, definition in steps.items():
        if definition.is_loop:
            yield from _with_handlers(definition.steps, f"{above}{key}.")
        elif definition.type is not None:
            yield f"{above}{key}", definition
