"""What can be wrong with sleeps and waits for a time."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from orchestrator.core.problem import Problem

if TYPE_CHECKING:
    from orchestrator.core.manifest import StepDef


def problems(
    place: str, key: str, step: "StepDef", beside: Mapping[str, "StepDef"], *, in_an_item: bool
) -> Iterator[Problem]:
    """Of one step, among those that stand `beside` it. The last one of an item may wait: the item ends later."""
    if in_an_item or (step.sleep is None and step.until is None):
        return
    if not any(key in other.run_after for other in beside.values()):
        yield Problem(place, "nothing comes after it: it would only hold the run open", "let a step wait for it")
