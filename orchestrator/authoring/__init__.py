"""How flows are written: `@step`, `@flow`, `each`, `schedule`, `Context`.

Nothing here reads a database or starts anything.
"""

from orchestrator.authoring.context import Context, Mailbox, Progress
from orchestrator.authoring.each import each
from orchestrator.authoring.flow import AnyFlow, Flow, flow
from orchestrator.authoring.polling import NotYet, Poll, PollState
from orchestrator.authoring.retry_after import RetryAfter
from orchestrator.authoring.schedule import Schedule, schedule
from orchestrator.authoring.step import AnyStep, Step, step

__all__ = [
    "AnyFlow",
    "AnyStep",
    "Context",
    "Flow",
    "NotYet",
    "Poll",
    "PollState",
    "Progress",
    "RetryAfter",
    "Schedule",
    "Mailbox",
    "Step",
    "each",
    "flow",
    "schedule",
    "step",
]
