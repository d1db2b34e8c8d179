"""What observers are notified of: facts that a commit made true. No behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol
from uuid import UUID

from orchestrator.core.facts import Dispatch, Failure
from orchestrator.core.states import RunStatus


class Run(Protocol):
    """Which run, and what started it; None: that was not read."""

    @property
    def run_id(self) -> UUID: ...
    @property
    def flow(self) -> str: ...
    @property
    def trigger(self) -> str | None: ...


class Step(Run, Protocol):
    """Which step. A `Lease` is one, a `StepOf` another."""

    @property
    def step_key(self) -> str: ...
    @property
    def type(self) -> str | None: ...
    @property
    def queue(self) -> str: ...
    @property
    def attempt(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class RunOf:
    """A run, of no step in particular."""

    run_id: UUID
    flow: str
    trigger: str | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run was made of a request; one whose key had started a run already makes none."""

    told: ClassVar = "accepted"
    run: Run


@dataclass(frozen=True, slots=True)
class Started:
    """An attempt was claimed by this process, after `queue_wait_s` in which its step was ready. It may still be given
    back before its handler is called; then no other fact about it follows."""

    told: ClassVar = "started"
    step: Step
    queue_wait_s: float


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The output was recorded, `took_s` after the attempt began here. `asked`: of a step that polls, in how many
    attempts it was asked until it was ready."""

    told: ClassVar = "succeeded"
    step: Step
    took_s: float
    asked: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt was recorded with this status: failed, timed_out, cancelled, crashed or released. `took_s` is None
    where another process than the one that ran it recorded that. `again`: its step is tried again."""

    told: ClassVar = "failed"
    step: Step
    failure: Failure
    status: str
    took_s: float | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Polled:
    """A step was asked, `took_s` ago, and is not ready yet."""

    told: ClassVar = "polled"
    step: Step
    why: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """The step can never run any more."""

    told: ClassVar = "skipped"
    step: Step


@dataclass(frozen=True, slots=True)
class Dispatched:
    """Its message was sent, `lag_s` after the sender was asked to. `again`: an earlier one may be lost."""

    told: ClassVar = "dispatched"
    dispatch: Dispatch
    lag_s: float
    again: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that somebody asked for was not done: a start, a message that found nothing to claim, a version whose
    steps this code does not run, a result that came too late."""

    told: ClassVar = "refused"
    what: Literal["start", "message", "version", "result"]
    reason: str
    flow: str
    run_id: UUID | None = None
    step_key: str | None = None
    number: int | None = None
    """Of a message: its dispatch."""
    queue: str | None = None
    """The same."""
    attempt: int | None = None
    """Of a result: its attempt."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came from outside was let in, `took_s` after it was received here: a webhook's delivery that started the
    run, or a signal. `step_key`: the wait that took the signal; None: it is kept for one. `came`: the trace in which it
    was sent, as W3C has it."""

    told: ClassVar = "delivered"
    what: Literal["webhook", "signal"]
    run: Run
    name: str
    took_s: float
    step_key: str | None = None
    came: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Split:
    """The run went on after a wait so long that what follows is another trace."""

    told: ClassVar = "split"
    run: Run


@dataclass(frozen=True, slots=True)
class Ended:
    """The run ended, `took_s` after it was accepted. `by`: the attempt with which it did; None when nothing of it was
    running any more."""

    told: ClassVar = "ended"
    run: Run
    status: RunStatus
    took_s: float
    by: Step | None = None


@dataclass(frozen=True, slots=True)
class Waited:
    """A signal came for a step that had waited for it so long."""

    told: ClassVar = "waited"
    flow: str
    waited_s: float


@dataclass(frozen=True, slots=True)
class Ticked:
    """So many ticks of schedules were decided with this outcome, because a beat announced them, a watchdog found them,
    or an operator asked for them."""

    told: ClassVar = "ticked"
    outcome: str
    by: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Operated:
    """Somebody acted on a run, a step, a flow or a schedule: cancel, retry, skip, mark, rerun, …"""

    told: ClassVar = "operated"
    action: str


@dataclass(frozen=True, slots=True)
class Slow:
    """A statement took longer than it should; whether it was committed is not known yet."""

    told: ClassVar = "slow"
    statement: str
    took_s: float


Fact = (
    Accepted
    | Started
    | Succeeded
    | Failed
    | Polled
    | Skipped
    | Dispatched
    | Refused
    | Delivered
    | Split
    | Ended
    | Waited
    | Ticked
    | Operated
    | Slow
)
