"""What can be wrong with sleeps and waits for a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.core.problem import Problem

if TYPE_CHECKING:
    from orchestrator.core.manifest import Manifest, StepDef


def problems(m: "Manifest", key: str, step: "StepDef") -> Iterator[Problem]:
    """Of one step of the manifest."""
    if step.sleep is None and step.until is None:
        return
    place = f"steps.{key}"
    if not any(key in other.run_after for other in m.steps.values()):
        yield Problem(place, "nothing comes after it: it would only hold the run open", "let a step wait for it")
