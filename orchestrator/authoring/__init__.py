"""How flows are written: `@step`, `@flow`, `each`, `schedule`, `Context`.

Nothing here reads a database or starts anything.
"""

from orchestrator.authoring.context import Context, Mailbox, Progress
from orchestrator.authoring.each import each
from orchestrator.authoring.flow import AnyFlow, Flow, flow
from orchestrator.authoring.schedule import Schedule, schedule
from orchestrator.authoring.step import AnyStep, Step, step

__all__ = [
    "AnyFlow",
    "AnyStep",
    "Context",
    "Flow",
    "Progress",
    "Schedule",
    "Mailbox",
    "Step",
    "each",
    "flow",
    "schedule",
    "step",
]
