"""The step of the flow that does nothing. Every worker has it, whatever its flows are."""

from orchestrator.authoring.step import step
from orchestrator.core.smoke import STEP


@step(key=STEP)
def nothing() -> None:
    """Do nothing."""
