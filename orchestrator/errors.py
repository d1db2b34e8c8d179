"""Every error of the product, in one tree. Each has a stable `code`, its facts as attributes, and survives pickling.

OrchestratorError
├── UsageError            what the caller gave does not fit (exit code 2)
├── NotFound              unknown flow, run, step (exit code 3)
├── Conflict              the state does not allow it (exit code 7)
├── Unavailable           a server cannot be reached or is not ready
├── TookTooLong           the database ended what took longer than it may
├── DatabaseFailed        PostgreSQL could not do what was asked
├── LeaseLost             another worker owns the step
├── ManifestUnreadable    a newer release wrote it
└── RunFailed, RunCancelled, WaitTimeout     how a waited-for run ended
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar


def _rebuild(cls: "type[OrchestratorError]", message: str, facts: Mapping[str, Any]) -> "OrchestratorError":
    return cls(message, **facts)


class OrchestratorError(Exception):
    """Base of all. `code` is stable; `facts` are also attributes."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def __reduce__(self) -> tuple[Callable[..., "OrchestratorError"], tuple[Any, ...]]:
        return _rebuild, (type(self), self.message, self.facts)


class UsageError(OrchestratorError):
    """What the caller gave does not fit."""

    code = "usage"
    exit_code = 2


class NotFound(OrchestratorError):
    """No such flow, run or step."""

    code = "not_found"
    exit_code = 3


class FlowNotFound(NotFound):
    code = "flow_not_found"


class RunNotFound(NotFound):
    code = "run_not_found"


class StepNotFound(NotFound):
    code = "step_not_found"


class ScheduleNotFound(NotFound):
    """The flow has no schedule of that key, or no backfill of that id."""

    code = "schedule_not_found"


class Conflict(OrchestratorError):
    """The state of the run or flow does not allow it."""

    code = "conflict"
    exit_code = 7


class FlowDisabled(Conflict):
    """The flow is disabled (SPEC: code 1010, trigger rejected)."""

    code = "flow_disabled"


class IdempotencyConflict(Conflict):
    """The idempotency key was used with another request."""

    code = "idempotency_conflict"


class Unavailable(OrchestratorError):
    """A server cannot be reached or is not ready."""

    code = "unavailable"


class SchemaBehind(Unavailable):
    """The ledger's schema is older than this release needs."""

    code = "schema_behind"


class DatabaseFailed(OrchestratorError):
    """PostgreSQL answered, and could not do what was asked; nothing was written."""

    code = "database_failed"


class PoolerUnfit(Unavailable):
    """The pooler in front of the database changes the session between transactions."""

    code = "pooler_unfit"


class TookTooLong(OrchestratorError):
    """The database is there, and ended a statement or a transaction that took longer than it may."""

    code = "took_too_long"


class LeaseLost(OrchestratorError):
    """Another worker owns the step, or it ended; nothing was written."""

    code = "lease_lost"


class RunFailed(OrchestratorError):
    """The run whose result was asked for failed."""

    code = "run_failed"
    exit_code = 1


class RunCancelled(OrchestratorError):
    """The run whose result was asked for was cancelled."""

    code = "run_cancelled"
    exit_code = 5


class RunTimedOut(RunFailed):
    """The run whose result was asked for passed its deadline."""

    code = "run_timed_out"


class WaitTimeout(OrchestratorError):
    """The run did not end in the time the caller wanted to wait; it goes on."""

    code = "wait_timeout"
    exit_code = 6


class InputInvalid(UsageError):
    """An input does not fit the flow or the step; `path` says where."""

    code = "input_invalid"


class OutputInvalid(OrchestratorError):
    """A step returned what its annotation does not allow, or what JSON cannot hold."""

    code = "output_invalid"


class ManifestInvalid(UsageError):
    """The manifest has problems; all are listed."""

    code = "manifest_invalid"


class ManifestUnreadable(OrchestratorError):
    """A manifest in the ledger is of a format that this release does not know, or cannot be read: its runs are for
    others."""

    code = "manifest_unreadable"


class AuthoringError(UsageError):
    """A flow function does what a placeholder cannot do; file and line are named."""

    code = "authoring"


class SettingsInvalid(UsageError):
    """A setting is unknown or has a wrong value."""

    code = "settings_invalid"


class DiscoveryError(UsageError):
    """A module named in ORCHESTRATOR_FLOWS cannot be loaded."""

    code = "discovery"


class DurationInvalid(UsageError, ValueError):
    """A string or number is not a length of time; a ValueError too, so pydantic collects it."""

    code = "duration"


class ScheduleInvalid(UsageError, ValueError):
    """A cron expression, zone, interval or bound of a schedule is invalid; a ValueError too, so pydantic collects
    it."""

    code = "schedule_invalid"


class ExpressionInvalid(UsageError, ValueError):
    """A string that begins with "@" is not an expression; `position` counts characters from 0."""

    code = "expression"


class ValueRefused(UsageError, ValueError):
    """A value that JSON in the ledger cannot hold (NaN, NUL, a lone surrogate, a foreign object); `path` says where."""

    code = "value"


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


class NotTransactional(UsageError):
    """A step that is not transactional asked for the ledger's transaction."""

    code = "not_transactional"
