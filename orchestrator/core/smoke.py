"""The flow that does nothing: what a smoke test sends through each queue."""

from typing import Final

from orchestrator.core.manifest import Manifest

FLOW: Final = "orchestrator-smoke"
STEP: Final = "nothing"


def through(queue: str) -> Manifest:
    """The version of the flow whose step goes through this queue."""
    return Manifest(
        name=FLOW,
        description="Does nothing: `orchestrator smoke` sends it through every queue.",
        queue=queue,
        steps={STEP: {"type": STEP, "timeout": "1m"}},
    )
