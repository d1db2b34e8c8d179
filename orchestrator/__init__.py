"""Durable flows of typed Python steps on Celery workers.

    from orchestrator import Context, each, flow, step

Flows are written with `step`, `flow`, `each`, `schedule` and `Context`; runs are started and watched with `Client` or
`AsyncClient`, which are imported at first use, so that a module of flows needs no database driver.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from orchestrator.authoring import (
    Context,
    Edge,
    Flow,
    HandedOver,
    NotYet,
    Outcome,
    Poll,
    PollState,
    Progress,
    RetryAfter,
    Schedule,
    Step,
    StepError,
    Webhook,
    after,
    all_of,
    always,
    answered_by,
    any_of,
    approval,
    block,
    contains,
    each,
    either,
    ended,
    env,
    failed,
    first_of,
    flow,
    header,
    is_null,
    none_of,
    on_failure,
    otherwise,
    require,
    schedule,
    secret_file,
    skipped,
    sleep,
    start_run,
    step,
    succeeded,
    until,
    wait_for_signal,
    when,
)
from orchestrator.core.manifest import (
    Backoff,
    CronTrigger,
    EveryTrigger,
    Manifest,
    Problem,
    Retry,
    StepDef,
    TriggerDef,
)
from orchestrator.core.secrets import Secret
from orchestrator.core.states import RunStatus, StepStatus
from orchestrator.core.timing import Cron, Every
from orchestrator.core.webhook_triggers import SignatureFormat, WebhookRate, WebhookTrigger
from orchestrator.errors import (
    AuthoringError,
    Conflict,
    DiscoveryError,
    FlowDisabled,
    FlowNotFound,
    HandOverRefused,
    IdempotencyConflict,
    InputInvalid,
    LeaseLost,
    ManifestInvalid,
    NotFound,
    NotTransactional,
    OrchestratorError,
    OutputInvalid,
    RunCancelled,
    RunFailed,
    RunNotFound,
    RunTimedOut,
    ScheduleInvalid,
    ScheduleNotFound,
    SettingsInvalid,
    StepNotFound,
    Unavailable,
    UsageError,
    ValueRefused,
    WaitTimeout,
)

if TYPE_CHECKING:
    from orchestrator.authoring.threads import ContextExecutor
    from orchestrator.client import (
        AsyncClient,
        AsyncHttpClient,
        Client,
        HttpClient,
        OperationHandle,
        RunHandle,
        ScheduleHandle,
    )
    from orchestrator.observe.correlation import StepFilter
    from orchestrator.settings import Settings

__all__ = [
    # writing flows
    "Context",
    "ContextExecutor",
    "Cron",
    "Every",
    "Flow",
    "HandedOver",
    "NotYet",
    "Outcome",
    "Poll",
    "PollState",
    "Progress",
    "RetryAfter",
    "Schedule",
    "Secret",
    "Step",
    "Webhook",
    "each",
    "env",
    "flow",
    "schedule",
    "secret_file",
    "start_run",
    "step",
    # conditions, failures and races in a flow's body
    "Edge",
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
    # flows as data
    "Backoff",
    "CronTrigger",
    "EveryTrigger",
    "Manifest",
    "Problem",
    "Retry",
    "StepDef",
    "TriggerDef",
    "SignatureFormat",
    "WebhookRate",
    "WebhookTrigger",
    # running flows
    "AsyncClient",
    "AsyncHttpClient",
    "Client",
    "HttpClient",
    "OperationHandle",
    "RunHandle",
    "RunStatus",
    "ScheduleHandle",
    "Settings",
    "StepStatus",
    # logs
    "StepFilter",
    # errors
    "AuthoringError",
    "Conflict",
    "DiscoveryError",
    "FlowDisabled",
    "FlowNotFound",
    "HandOverRefused",
    "IdempotencyConflict",
    "InputInvalid",
    "LeaseLost",
    "ManifestInvalid",
    "NotFound",
    "NotTransactional",
    "OrchestratorError",
    "OutputInvalid",
    "RunCancelled",
    "RunFailed",
    "RunNotFound",
    "RunTimedOut",
    "ScheduleInvalid",
    "ScheduleNotFound",
    "SettingsInvalid",
    "StepNotFound",
    "Unavailable",
    "UsageError",
    "ValueRefused",
    "WaitTimeout",
]

_LAZY = {
    "AsyncClient": "orchestrator.client",
    "AsyncHttpClient": "orchestrator.client",
    "Client": "orchestrator.client",
    "ContextExecutor": "orchestrator.authoring.threads",
    "HttpClient": "orchestrator.client",
    "OperationHandle": "orchestrator.client",
    "RunHandle": "orchestrator.client",
    "ScheduleHandle": "orchestrator.client",
    "Settings": "orchestrator.settings",
    "StepFilter": "orchestrator.observe.correlation",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
