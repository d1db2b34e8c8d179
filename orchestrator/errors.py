"""Every error of the product, in one tree. Each has a stable `code`, its facts as attributes, and survives pickling.

OrchestratorError
├── UsageError
│   ├── InputInvalid
│   │   ├── SignalUnreadable
│   │   └── SignalInvalid
│   ├── ManifestInvalid
│   ├── AuthoringError
│   ├── SettingsInvalid
│   ├── DiscoveryError
│   ├── DurationInvalid
│   ├── ScheduleInvalid
│   ├── ExpressionInvalid
│   ├── ValueRefused
│   ├── NotTransactional
│   ├── HandOverRefused
│   ├── SignalTooLarge
│   ├── QueryInvalid
│   └── WebhookUnreadable
├── NotFound
│   ├── FlowNotFound
│   ├── RunNotFound
│   ├── StepNotFound
│   ├── ScheduleNotFound
│   ├── OperationNotFound
│   ├── SignalNotFound
│   ├── ApprovalNotFound
│   ├── ScalingGroupNotFound
│   ├── WorkerNotFound
│   ├── KeyNotFound
│   ├── UserNotFound
│   ├── SessionNotFound
│   ├── WebhookNotFound
│   ├── SubscriptionNotFound
│   └── NotificationNotFound
├── Conflict
│   ├── FlowDisabled
│   ├── IdempotencyConflict
│   ├── DevRunning
│   ├── SignalIdUsed
│   ├── SignalTaken
│   ├── SignalTooLate
│   ├── SignalsFull
│   ├── ApprovalNotOpen
│   ├── NameTaken
│   ├── KeyEnded
│   └── DeliveryConflict
├── Unavailable
│   ├── PayloadUnavailable
│   ├── SchemaBehind
│   ├── PoolerUnfit
│   ├── EmbeddedMissing
│   ├── EmbeddedFailed
│   └── DevFailed
├── DatabaseFailed
├── PayloadLost
├── TookTooLong
├── LeaseLost
├── RunFailed
│   └── RunTimedOut
├── RunCancelled
├── WaitTimeout
├── OutputInvalid
├── ManifestUnreadable
├── Unauthenticated
├── Forbidden
└── DeliveryRefused
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar


def _rebuild(cls: "type[OrchestratorError]", message: str, facts: Mapping[str, Any]) -> "OrchestratorError":
    return cls(message, **facts)


class OrchestratorError(Exception):
    """Base of all. `code` is stable. `facts` are attributes too: each class declares its own; one that is not known in
    a case has its default there."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts: Mapping[str, Any] = facts
        self.__dict__.update(facts)

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def __reduce__(self) -> tuple[Callable[..., "OrchestratorError"], tuple[Any, ...]]:
        return _rebuild, (type(self), self.message, self.facts)


class UsageError(OrchestratorError):
    """What the caller gave does not fit."""

    code = "usage"
    exit_code = 2
    key: str | None = None
    """An idempotency key."""
    flow: str | None = None


class NotFound(OrchestratorError):
    """No such flow, run or step."""

    code = "not_found"
    exit_code = 3


class FlowNotFound(NotFound):
    code = "flow_not_found"
    flow: str | None = None


class RunNotFound(NotFound):
    code = "run_not_found"
    run_id: str | None = None
    """As it was asked for."""


class StepNotFound(NotFound):
    code = "step_not_found"
    step_key: str | None = None


class ScheduleNotFound(NotFound):
    """The flow has no schedule of that key, or no backfill of that id."""

    code = "schedule_not_found"
    flow: str | None = None
    key: str | None = None
    """Of the schedule."""
    id: str | None = None
    """Of a backfill."""


class OperationNotFound(NotFound):
    code = "operation_not_found"
    id: str | None = None
    """As it was asked for."""


class Conflict(OrchestratorError):
    """The state of the run or flow does not allow it."""

    code = "conflict"
    exit_code = 7
    flow: str | None = None
    run_id: str | None = None
    key: str | None = None
    """Of a schedule, or the idempotency key."""
    status: str | None = None
    """Of the run."""


class FlowDisabled(Conflict):
    """The flow is disabled (SPEC: code 1010, trigger rejected)."""

    code = "flow_disabled"


class IdempotencyConflict(Conflict):
    """The idempotency key was used with another request."""

    code = "idempotency_conflict"


class Unavailable(OrchestratorError):
    """A server cannot be reached or is not ready."""

    code = "unavailable"
    refused: bool = False
    """It answers and refuses us: waiting does not help."""
    fix: str | None = None


class PayloadUnavailable(Unavailable):
    """The payload store cannot be reached, is not the one of this ledger, or is not set."""

    code = "payload_unavailable"


class SchemaBehind(Unavailable):
    """The ledger's schema is older than this release needs."""

    code = "schema_behind"
    found: str | None = None
    """The revision that is there."""
    needed: str | None = None
    """The revision of this release."""


class DatabaseFailed(OrchestratorError):
    """PostgreSQL answered, and could not do what was asked; nothing was written."""

    code = "database_failed"
    sqlstate: str | None = None
    """PostgreSQL's code."""


class PayloadLost(OrchestratorError):
    """What the payload store has is not what was written there, or it has nothing any more."""

    code = "payload_lost"
    reference: str | None = None
    """Its name in the store."""


class PoolerUnfit(Unavailable):
    """There is a pooler in front of the database that was not declared or is not what was declared, or the role's
    settings do not arrive through it."""

    code = "pooler_unfit"


class TookTooLong(OrchestratorError):
    """The database is there, and ended a statement or a transaction that took longer than it may."""

    code = "took_too_long"


class LeaseLost(OrchestratorError):
    """Another worker owns the step, or it ended; nothing was written."""

    code = "lease_lost"
    run_id: str | None = None
    step_key: str | None = None
    version: int | None = None
    """The claim's fence."""


class RunFailed(OrchestratorError):
    """The run whose result was asked for failed."""

    code = "run_failed"
    exit_code = 1
    run_id: str | None = None
    flow: str | None = None
    step: str | None = None
    """The key of the step that failed first."""


class RunCancelled(OrchestratorError):
    """The run whose result was asked for was cancelled."""

    code = "run_cancelled"
    exit_code = 5
    run_id: str | None = None
    flow: str | None = None
    step: str | None = None


class RunTimedOut(RunFailed):
    """The run whose result was asked for passed its deadline."""

    code = "run_timed_out"


class WaitTimeout(OrchestratorError):
    """The run did not end in the time the caller wanted to wait; it goes on."""

    code = "wait_timeout"
    exit_code = 6
    run_id: str | None = None


class InputInvalid(UsageError):
    """An input does not fit the flow or the step; `path` says where."""

    code = "input_invalid"
    path: str | None = None
    """Where in the input."""
    step: str | None = None


class OutputInvalid(OrchestratorError):
    """A step returned what its annotation does not allow, or what JSON cannot hold."""

    code = "output_invalid"
    path: str | None = None
    """Where in the result."""
    step: str | None = None
    flow: str | None = None


class ManifestInvalid(UsageError):
    """The manifest has problems; all are listed."""

    code = "manifest_invalid"
    problems: Sequence[Any] = ()
    """All of them."""


class ManifestUnreadable(OrchestratorError):
    """A manifest in the ledger is of a format that this release does not know, or cannot be read: its runs are for
    others."""

    code = "manifest_unreadable"
    manifest_hash: str | None = None


class AuthoringError(UsageError):
    """A flow function does what a placeholder cannot do; file and line are named."""

    code = "authoring"
    place: str | None = None
    """File and line, for people."""
    file: str | None = None
    line: int | None = None


class SettingsInvalid(UsageError):
    """A setting is unknown or has a wrong value."""

    code = "settings_invalid"


class DiscoveryError(UsageError):
    """A module named in ORCHESTRATOR_FLOWS cannot be loaded."""

    code = "discovery"
    module: str | None = None
    origin: str | None = None
    """Where the module's name was read."""


class DurationInvalid(UsageError, ValueError):
    """A string or number is not a length of time; a ValueError too, so pydantic collects it."""

    code = "duration"
    value: str | None = None
    """As it was given."""


class ScheduleInvalid(UsageError, ValueError):
    """A cron expression, zone, interval or bound of a schedule is invalid; a ValueError too, so pydantic collects
    it."""

    code = "schedule_invalid"
    place: str | None = None
    """The schedule, or the argument."""
    value: Any = None
    """As it was given."""
    count: int | None = None
    """Times of the span."""


class ExpressionInvalid(UsageError, ValueError):
    """A string that begins with "@" is not an expression; `position` counts characters from 0."""

    code = "expression"
    expression: str | None = None
    position: int | None = None
    """Counted in characters, from 0."""
    problem: str | None = None
    fix: str | None = None


class ValueRefused(UsageError, ValueError):
    """A value that JSON in the ledger cannot hold (NaN, NUL, a lone surrogate, a foreign object); `path` says where."""

    code = "value"
    path: str = ""
    """Where in the value."""
    problem: str | None = None


class EmbeddedMissing(Unavailable):
    """The wheels with the embedded servers are not installed, or not for this platform."""

    code = "embedded_missing"


class EmbeddedFailed(Unavailable):
    """An embedded server could not be started; the end of its log is in the message."""

    code = "embedded_failed"


class DevFailed(Unavailable):
    """`orchestrator dev` could not bring its stack up; what it had started was stopped again."""

    code = "dev_failed"


class DevRunning(Conflict):
    """Another `orchestrator dev` uses the data directory."""

    code = "dev_running"
    pid: int | None = None
    """Of the other one."""


class NotTransactional(UsageError):
    """A step that is not transactional asked for the ledger's transaction."""

    code = "not_transactional"
    step_key: str | None = None


class HandOverRefused(UsageError):
    """A step handed over, and its worker was not told to stop."""

    code = "hand_over_refused"
    step_key: str | None = None


class SignalNotFound(NotFound):
    """No step of the run waits for a signal of that name."""

    code = "signal_not_found"
    run_id: str | None = None
    name: str | None = None
    child: str | None = None
    """The run below this one that waits for it."""


class ApprovalNotFound(NotFound):
    """The run has not asked for that answer."""

    code = "approval_not_found"
    run_id: str | None = None
    step_key: str | None = None
    child: str | None = None
    """The run below this one that asks for it."""


class ScalingGroupNotFound(NotFound):
    """The settings name no such group of workers."""

    code = "scaling_group_not_found"
    group: str | None = None


class SignalUnreadable(InputInvalid):
    """The payload of a signal is not JSON, or JSON that cannot be stored."""

    code = "signal_unreadable"


class SignalInvalid(InputInvalid):
    """The payload of a signal does not fit what its step waits for; `path` says where. Nothing was stored."""

    code = "signal_invalid"
    run_id: str | None = None
    name: str | None = None


class SignalTooLarge(UsageError):
    """The payload of a signal is larger than the ledger takes."""

    code = "signal_too_large"
    size_bytes: int | None = None


class SignalIdUsed(Conflict):
    """The id was used for another signal to this run."""

    code = "signal_id_used"
    name: str | None = None
    id: str | None = None


class SignalTaken(Conflict):
    """Another signal came first; nothing waits for one more."""

    code = "signal_taken"
    name: str | None = None
    step_key: str | None = None
    by: str | None = None
    """Who sent the one that came first."""


class SignalTooLate(Conflict):
    """The run has ended or is being stopped, or whatever waited for the signal is over."""

    code = "signal_too_late"
    name: str | None = None


class SignalsFull(Conflict):
    """The run keeps as many signals as it may, and nothing waits for this one now."""

    code = "signals_full"
    name: str | None = None


class ApprovalNotOpen(Conflict):
    """Nobody is asked yet."""

    code = "approval_not_open"
    step_key: str | None = None


class QueryInvalid(UsageError, ValueError):
    """The text of a query for runs cannot be read; `position` counts characters from 0."""

    code = "query"
    position: int | None = None
    """Counted in characters, from 0."""
    problem: str | None = None
    fix: str | None = None


class WorkerNotFound(NotFound):
    """No live worker has that id, host or release."""

    code = "worker_not_found"
    target: str | None = None
    """As it was asked for."""


class KeyNotFound(NotFound):
    """No API key has that id or name, or it was revoked."""

    code = "key_not_found"
    key: str | None = None
    """As it was asked for."""


class UserNotFound(NotFound):
    """No user has that name."""

    code = "user_not_found"
    user: str | None = None


class SessionNotFound(NotFound):
    """No open session has that id."""

    code = "session_not_found"
    session: str | None = None


class NameTaken(Conflict):
    """Another key, user or subscription has the name."""

    code = "name_taken"
    name: str | None = None


class KeyEnded(Conflict):
    """The API key has expired or was replaced."""

    code = "key_ended"


class Unauthenticated(OrchestratorError):
    """Whoever asks did not prove who they are. It is not said what was wrong."""

    code = "unauthenticated"


class Forbidden(OrchestratorError):
    """Whoever asks may not do that."""

    code = "forbidden"
    needed: str | None = None
    """The role or scope that may."""


class WebhookUnreadable(UsageError):
    """The body of a delivery is not the JSON or the form that its webhook takes."""

    code = "webhook_unreadable"


class WebhookNotFound(NotFound):
    """No flow has a webhook of that slug, or there is no delivery of that id."""

    code = "webhook_not_found"
    slug: str | None = None
    id: str | None = None
    """Of a delivery."""


class SubscriptionNotFound(NotFound):
    """There is no subscription of that name or id."""

    code = "subscription_not_found"
    name: str | None = None
    """As it was asked for."""


class NotificationNotFound(NotFound):
    """Nothing of that id was sent to a subscription, or it was removed."""

    code = "notification_not_found"
    id: str | None = None
    """As it was asked for."""


class DeliveryConflict(Conflict):
    """The id of a delivery came before, with another body."""

    code = "delivery_conflict"
    slug: str | None = None


class DeliveryRefused(OrchestratorError):
    """A delivery did not pass a gate of its webhook; nothing was started."""

    code = "delivery_refused"
    slug: str | None = None
    gate: str | None = None
    status: int | None = None
    """Of HTTP."""
    retry_after_s: int | None = None
    """After which it may be sent again."""
