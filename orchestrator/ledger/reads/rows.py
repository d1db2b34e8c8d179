"""What a row of a list is, as people and clients see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import JsonValue

from orchestrator.core.facts import KEEPER
from orchestrator.core.schedule_ids import schedule_name
from orchestrator.core.search import Scalar
from orchestrator.core.states import FINAL_RUN, RunStatus, StepKind, StepStatus
from orchestrator.core.subscriptions import NotificationState


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run. `error` says why it failed: step, type, message. `key` is the idempotency key, or the key of the schedule
    that started it; then `scheduled_for` is the time that the schedule meant."""

    id: UUID
    flow: str
    version: str
    manifest_hash: str
    status: RunStatus
    tags: tuple[str, ...]
    trigger: str
    key: str | None
    body: JsonValue
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: dict[str, JsonValue] | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    deadline: datetime | None
    epoch: int
    scheduled_for: datetime | None = None
    ordinal: int | None = None
    """Of the version that it is pinned to."""
    source: UUID | None = None
    """The run that it was made of."""
    start_at: datetime | None = None
    """When it begins, if that is later than it was accepted; None once it has begun."""
    parent: UUID | None = None
    """The run that called it,"""
    parent_step: str | None = None
    """and the step of that."""
    search: Mapping[str, Scalar] = field(default_factory=dict)
    """Its search attributes."""
    trace_context: Mapping[str, str] = field(default_factory=dict)
    """The trace of the request that started it: `traceparent`, perhaps `tracestate`, as W3C has them."""
    fingerprint: str | None = None
    """Of its error, if a step failed: errors that are alike have the same."""

    @property
    def is_over(self) -> bool:
        return self.status in FINAL_RUN

    @property
    def schedule(self) -> str | None:
        """`flow/key` of the schedule that started it."""
        return schedule_name(self.flow, self.key) if self.scheduled_for is not None and self.key else None


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step. A loop has no type, and counts its children by status. `worked` is the time of its attempts, without the
    pauses between them; it is None for a loop and before the first attempt. `since`: when it came to its status.
    `polls`: how often it was asked and was not ready. `wake_at`: until when a wait lasts.
    `awaits`: what has to come for it to be over before."""

    key: str
    kind: StepKind
    type: str | None
    task: str | None
    loop_key: str | None
    loop_index: int | None
    status: StepStatus
    reason: str | None
    attempts: int
    queue: str
    due_at: datetime | None
    ready_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    children_total: int | None
    children_open: int | None
    children_failed: int | None
    children: dict[str, int] | None
    progress: dict[str, JsonValue] | None
    error: dict[str, JsonValue] | None
    owner: str | None
    worked: timedelta | None = None
    since: datetime | None = None
    polls: int = 0
    wake_at: datetime | None = None
    awaits: str | None = None
    child: UUID | None = None
    """Of a step that calls a flow: the run that does it, or did it last."""


@dataclass(frozen=True, slots=True)
class ChildRow:
    """A run that a step of another run called."""

    id: UUID
    flow: str
    step: str
    status: RunStatus


@dataclass(frozen=True, slots=True)
class EventRow:
    """An entry of the audit."""

    id: int
    at: datetime
    type: str
    step_key: str | None
    attempt: int | None
    facts: JsonValue


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt of a step."""

    attempt: int
    version: int
    owner: str
    status: str
    error_type: str | None
    error_message: str | None
    error_traceback: str | None
    inputs: JsonValue
    queue_wait: timedelta | None
    started_at: datetime
    ended_at: datetime | None
    fingerprint: str | None = None
    """Of its error: errors that are alike have the same."""


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A registered flow at its current version."""

    name: str
    version: str
    manifest_hash: str
    enabled: bool
    updated_at: datetime
    switched_by: str | None
    switch_reason: str | None
    open_runs: int
    ordinal: int | None = None
    """Of the current version."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a flow. `ordinal` is null until a release that counts has seen it."""

    ordinal: int | None
    hash: str
    version: str
    format: int
    created_at: datetime
    registered_by: str | None
    superseded_at: datetime | None
    current: bool
    open_runs: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker process, or a keeper; `live` when it was seen lately."""

    id: str
    host: str
    pid: int
    pool: str
    concurrency: int
    prefetch: int
    queues: tuple[str, ...]
    handlers: tuple[str, ...]
    release: str
    started_at: datetime
    seen_at: datetime
    consumed_at: datetime | None
    live: bool
    versions: Mapping[str, str]
    """By flow, the manifest hash of its code."""
    refuses: Mapping[str, str]
    """By task@manifest hash, why it does not take such steps."""
    payload_store: UUID | None = None
    """The id of the store that it reads and writes."""
    label: str | None = None
    """What the release of its code is called, if it was told."""

    drain_at: datetime | None = None
    """When somebody told it to stop by way of the ledger, which `drain_by` did."""
    drain_by: str | None = None
    stopping_at: datetime | None = None
    """When it began to stop: it takes nothing new."""

    @property
    def is_keeper(self) -> bool:
        """It takes no steps."""
        return self.pool == KEEPER


@dataclass(frozen=True, slots=True)
class UnservedRow:
    """A task with ready steps that no live worker takes; `refused` of them by every worker that has the handler."""

    task: str
    queue: str
    ready: int
    since: datetime
    refused: int


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook, with what came lately. `scheme` is None where an earlier release made another version current."""

    slug: str
    flow: str
    scheme: str | None
    mode: str | None
    """None: as the settings say."""
    enabled: bool
    accepted: int
    refused: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """What came by a webhook, and what became of it."""

    id: UUID
    slug: str
    flow: str
    received_at: datetime
    scheme: str
    mode: str
    outcome: str
    status: int
    """Of HTTP."""
    gate: str | None
    """The first that it did not pass."""
    why: str | None
    address: str | None
    size_bytes: int
    run_id: UUID | None
    previous_key: bool
    count: int
    """Refusals of a flood that it stands for."""
    replay_of: UUID | None
    replayed_at: datetime | None
    replayable: bool


@dataclass(frozen=True, slots=True)
class WholeDelivery(DeliveryRow):
    """With what it said, gate by gate; without secrets."""

    digest: str
    verdicts: Sequence[Mapping[str, JsonValue]]
    headers: Mapping[str, str]
    body: JsonValue


@dataclass(frozen=True, slots=True)
class DeliveryCount:
    """How many deliveries came, of one outcome and gate."""

    slug: str
    flow: str
    outcome: str
    gate: str | None
    count: int
    last_at: datetime
    bytes: int
    previous_key: int


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """What was, is or will be sent to a subscription, and how that stands."""

    id: UUID
    subscription_id: UUID
    subscription: str
    type: str
    run_id: UUID | None
    at: datetime
    state: NotificationState
    tries: int
    """That failed, since it was made or redriven."""
    claims: int
    """Attempts that were begun."""
    due_at: datetime
    claimed_until: datetime | None
    created_at: datetime
    ended_at: datetime | None
    give_up_at: datetime
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class NotificationTry:
    """An attempt to send it; one whose worker died left none."""

    attempt: int
    at: datetime
    duration_ms: int
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class WholeNotification(NotificationRow):
    """With what it says, and each attempt."""

    data: JsonValue
    attempts: Sequence[NotificationTry]


@dataclass(frozen=True, slots=True)
class NotificationCount:
    """How many, and how many of them were sent once."""

    n: int
    at_first: int
