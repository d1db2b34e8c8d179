"""How flows are written: `@step`, `@flow`, `each`, `schedule`, `Context`, conditions and blocks.

Nothing here reads a database or starts anything.
"""

from orchestrator.authoring.blocks import Block, StepError, after, always, on_failure, otherwise, when
from orchestrator.authoring.calls import start_run
from orchestrator.authoring.context import Context, HandedOver, Mailbox, Progress
from orchestrator.authoring.each import each
from orchestrator.authoring.edges import Edge, ended, failed, skipped, succeeded
from orchestrator.authoring.flow import AnyFlow, Flow, flow
from orchestrator.authoring.graphs import block
from orchestrator.authoring.merges import either, first_of, require
from orchestrator.authoring.outcomes import Outcome
from orchestrator.authoring.polling import NotYet, Poll, PollState
from orchestrator.authoring.predicates import all_of, any_of, contains, header, is_null, none_of
from orchestrator.authoring.retry_after import RetryAfter
from orchestrator.authoring.schedule import Schedule, schedule
from orchestrator.authoring.signals import answered_by, approval, wait_for_signal
from orchestrator.authoring.step import AnyStep, Step, step
from orchestrator.authoring.waits import sleep, until
from orchestrator.authoring.webhook import Webhook, env, secret_file

__all__ = [
    "AnyFlow",
    "AnyStep",
    "Context",
    "Flow",
    "HandedOver",
    "NotYet",
    "Outcome",
    "Poll",
    "PollState",
    "Progress",
    "RetryAfter",
    "Schedule",
    "Webhook",
    "Mailbox",
    "Step",
    "each",
    "Block",
    "StepError",
    "after",
    "all_of",
    "answered_by",
    "approval",
    "always",
    "any_of",
    "block",
    "contains",
    "either",
    "ended",
    "failed",
    "first_of",
    "header",
    "is_null",
    "none_of",
    "on_failure",
    "otherwise",
    "require",
    "skipped",
    "sleep",
    "succeeded",
    "until",
    "wait_for_signal",
    "when",
    "Edge",
    "flow",
    "schedule",
    "env",
    "secret_file",
    "start_run",
    "step",
]
