"""What goes in and out of the ledger and the engine: frozen facts, no behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from pydantic import JsonValue

from orchestrator.core.fingerprint import fingerprint
from orchestrator.core.payload import Payload
from orchestrator.core.states import RunStatus


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One message to send: ids and routing, nothing else."""

    run_id: UUID
    step_key: str
    number: int
    task: str
    queue: str
    priority: int


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A trigger. `body` is JSON text, as it was given, without defaults; `key` is the idempotency key. `headers` is the
    JSON text of an object; of those, the run keeps what core/headers.py says."""

    flow: str
    body: str = field(default="{}", repr=False)
    key: str | None = None
    tags: tuple[str, ...] = ()
    trigger: str = "manual"
    headers: str | None = field(default=None, repr=False)
    trace: str | None = None
    """The JSON text of what core/trace.py found in the headers."""
    run_id: UUID | None = None
    """The id of the run, when the caller has to know it before."""
    scheduled_for: datetime | None = None
    schedule: str | None = None
    """The key of the schedule that starts it."""
    version: str | None = None
    """The hash of the flow's version to run; None: the current one."""
    checked: bool = False
    """Whether the body is known to fit this `version`: the code of the flow wrote it."""
    begins: timedelta | datetime | None = None
    """When the run begins: so long after it was accepted, or then; None: at once."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A live claim: the right to run one attempt and to record its outcome, until `expires_at` unless renewed."""

    run_id: UUID
    step_key: str
    flow: str
    type: str
    task: str
    attempt: int
    fence: int
    owner: str
    manifest_hash: str
    queue: str
    priority: int
    expires_at: datetime
    stop_at: datetime | None
    transactional: bool
    trigger: str = "manual"
    """What started the run."""
    queue_wait_s: float = 0.0
    """How long the step had been ready; zero for one of a chain."""
    trace: Mapping[str, str] | None = None
    """What is kept of the run's trace: see core/trace.py."""
    index: int | None = None
    item: JsonValue = field(default=None, repr=False)
    known: dict[str, JsonValue] = field(default_factory=dict, repr=False)
    """Outputs by step key that are already at hand; `@` is the trigger body."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """Whoever would take a step: for how long, and of which versions (manifest hashes): those it has read and can run;
    None: of all there are."""

    owner: str
    lease: timedelta
    accepted: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class UnknownVersion:
    """Nothing was claimed: the run is of a version whose steps the caller did not offer to take."""

    manifest_hash: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What the finishing worker offers for the only successor: a lease of this length, for tasks whose inputs in this
    version of the flow its handlers accept."""

    lease: timedelta
    handlers: frozenset[str]


@dataclass(frozen=True, slots=True)
class StepError:
    """Why an attempt failed, as people will read it."""

    type: str
    message: str
    traceback: str | None = None
    frame: str | None = None
    """Where in the user's code it was raised: file and function, no line, which any change moves."""

    @property
    def fingerprint(self) -> str:
        """Errors that are alike have the same."""
        return fingerprint(self.type, self.message, self.frame)


@dataclass(frozen=True, slots=True)
class Success:
    """What a handler returned, and what it was given, both as JSON text; and what its worker would take next."""

    output: str = field(repr=False)
    inputs: str | None = field(default=None, repr=False)
    chain: Chain | None = None
    payload: Payload | None = None
    """Where the output is, if the ledger is not to have it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed. `inputs` is what the handler was given, as JSON text. A next try is made after `delay`, or
    after the back-off that `jitter` (0 <= j < 1) spreads."""

    error: StepError
    retryable: bool = True
    status: Literal["failed", "timed_out", "cancelled", "crashed", "released"] = "failed"
    inputs: str | None = field(default=None, repr=False)
    jitter: float = 0.5
    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class NotReady:
    """A step that polls was asked, and is not ready: why, and when it wants to be asked again (None: as its flow
    says). `inputs` is what the handler was given, as JSON text."""

    why: str
    after: timedelta | None = None
    inputs: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StepOf:
    """A step that nobody here holds a lease on. None: `type`, for a loop; `attempt`, where none was made; and what was
    not read."""

    run_id: UUID
    flow: str
    trigger: str | None
    step_key: str
    type: str | None
    queue: str
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """What a recorded outcome led to. `next` is claimed already; `run_status`, and `run_took` since it was accepted,
    are set when the run ended, `attempt` when an attempt was recorded otherwise than asked; `skipped` are steps that
    can never run any more."""

    next: Lease | None = None
    dispatches: tuple[Dispatch, ...] = ()
    run_status: RunStatus | None = None
    run_took: timedelta | None = None
    attempt: str | None = None
    skipped: tuple[StepOf, ...] = ()
    untold: bool = False
    """Whether the run ended and a step of another run waits for that: it is to be told, after the commit."""
    called: tuple["Called", ...] = ()
    """Runs that its steps started, or went on with. What was dispatched of them is among these dispatches."""
    again: bool = False
    """Whether the step is tried again after an attempt that failed."""
    split: bool = False
    """Whether the run waited so long that a new trace begins."""
    postponed: bool = False
    """Whether calls of flows are left to another transaction: they are to be woken."""


@dataclass(frozen=True, slots=True)
class Called:
    """A run that a step of another run started, or went on with (`again`), and what opening it led to."""

    run_id: UUID
    flow: str
    trigger: str
    opened: Finished
    again: bool = False


@dataclass(frozen=True, slots=True)
class StartedRun:
    """What a request is answered with. `created` is False when the idempotency key had already started this run."""

    run_id: UUID
    created: bool
    dispatches: tuple[Dispatch, ...]
    opened: Finished | None = None
    """What opening its first loops led to."""

    @property
    def status(self) -> RunStatus | None:
        """Where it stood when it was accepted; None: more came of that than first messages, so whoever wants to know
        asks."""
        return RunStatus.PENDING if self.created and self.opened is None else None


@dataclass(frozen=True, slots=True)
class LeaseBeat:
    """A renewal to ask for; `progress` is JSON text."""

    run_id: UUID
    step_key: str
    fence: int
    progress: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Renewal:
    """`alive` is False when the claim is no longer ours; `cancel` when the run was cancelled or timed out."""

    run_id: UUID
    step_key: str
    fence: int
    alive: bool
    cancel: bool


@dataclass(frozen=True, slots=True)
class Overrun:
    """A claim that was ended in the ledger although its handler may still run: the caller stops the handler."""

    run_id: UUID
    step_key: str
    fence: int
    owner: str
    why: Literal["timeout", "cancel"]
    dispatches: tuple[Dispatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """What one page of a sweep changed; the dispatches are for the caller to publish.

    `more`: the page was full and something came of it, so the next one is worth asking for at once. `unreadable`: runs
    of another release were in it, which a keeper of that release has to look at. `next_s`: seconds until something
    else is due, where that is known. `to_wake`: there are waiting steps that the engine has to look at itself.
    `untold`: runs have ended that other runs called, and were not told.
    """

    changed: int = 0
    dispatches: tuple[Dispatch, ...] = ()
    more: bool = False
    unreadable: bool = False
    next_s: float | None = None
    to_wake: bool = False
    untold: bool = False

    def __add__(self, other: "Swept") -> "Swept":
        """What both changed; what is due, and left to do, as the first one knows it."""
        return replace(
            self,
            changed=self.changed + other.changed,
            dispatches=self.dispatches + other.dispatches,
            more=self.more or other.more,
            unreadable=self.unreadable or other.unreadable,
        )


KEEPER: Final = "keeper"
"""The `pool` of a process that does the duties of the cluster and takes no steps."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process, or a keeper, as it introduces itself."""

    id: str
    host: str
    pid: int
    pool: str
    concurrency: int
    prefetch: int
    queues: tuple[str, ...]
    handlers: tuple[str, ...]
    release: str
    versions: Mapping[str, str] = field(default_factory=dict)
    """By flow, the manifest hash of its code."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """By task@manifest hash, why it does not take such steps."""
    payload_store: UUID | None = None
    label: str | None = None
    """What the release of its code is called."""


def pair(task: str, manifest_hash: str) -> str:
    """How what a worker refuses is kept."""
    return f"{task}@{manifest_hash}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence on what a run or step waits for, and the command that helps, if one does."""

    sentence: str
    command: str | None = None
    fix: str | None = None
    """What helps, in words, where the sentence tells of an end that nobody wanted; the sentence ends with it too."""
