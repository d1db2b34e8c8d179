"""A step that a person settles: left out, or done by other means."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from orchestrator.core.states import StepEvent

MARKED: Final = "marked as done by "
"""How the reason begins of a step that has succeeded because an operator says so."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Which step, by whom and why. `output` is JSON text; None: the step is skipped."""

    run_id: UUID
    step_key: str
    by: str
    reason: str
    output: str | None = None

    @property
    def event(self) -> StepEvent:
        return StepEvent.SKIP if self.output is None else StepEvent.MARK

    @property
    def told(self) -> str:
        """What stands on the step."""
        return f"{'skipped by ' if self.output is None else MARKED}{self.by}: {self.reason}"
