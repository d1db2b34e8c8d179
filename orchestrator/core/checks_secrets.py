"""What a manifest must not say about secrets: they would stand in it, or be shown, for everybody to read."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue

from orchestrator.core.problem import Problem
from orchestrator.core.secrets import in_schema, leaves
from orchestrator.core.signals import awaited
from orchestrator.core.taint import FlowSecrets

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest, StepDef

_NOT_HERE = "let a step read it from its environment, or take it as an input of a run"


def problems(manifest: "Manifest") -> Iterator[Problem]:
    """By types only: a name alone refuses nothing."""
    secrets = FlowSecrets(manifest, ())
    for key, schedule in manifest.schedules.items():
        if leaves(schedule.input, secrets.input):
            yield Problem(f"triggers.{key}.input", "it holds a secret, in clear in the manifest", _NOT_HERE)
    for place, key, step in _every("steps", "", manifest.steps):
        seen, wait = secrets.step(key).seen, awaited(key, step)
        for where, value in _said(step).items():
            if seen.of_value(value):
                why = "it reads a secret, and is shown in clear"
                yield Problem(f"{place}.{where}", why, "give something that is not a secret")
        if wait is not None and wait.default is not None and leaves(wait.default[0], in_schema(wait.form)):
            where = "signal.default" if wait.approval is None else "approval.late"
            yield Problem(f"{place}.{where}", "it holds a secret, in clear in the manifest", _NOT_HERE)


def _every(place: str, above: str, steps: "Mapping[str, StepDef]") -> "Iterator[tuple[str, str, StepDef]]":
    """The place and the row of each step, those of loops as of their first item."""
    for key, step in steps.items():
        yield f"{place}.{key}", f"{above}{key}", step
        yield from _every(f"{place}.{key}.steps", f"{above}{key}.0.", step.steps)


def _said(step: "StepDef") -> dict[str, JsonValue]:
    """What is listed, and told in events: whom and when it waits for."""
    said: dict[str, JsonValue] = {"sleep": step.sleep if isinstance(step.sleep, str) else None, "until": step.until}
    if step.signal is not None:
        said |= {"signal.key": step.signal.key, "signal.until": step.signal.until}
    if step.approval is not None:
        said |= {"approval.title": step.approval.title, "approval.to": step.approval.to}
    return {where: value for where, value in said.items() if value is not None}
