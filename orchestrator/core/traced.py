"""What the ledger tells of runs and steps whose spans are made. No behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from orchestrator.core.trace import Trace


@dataclass(frozen=True, slots=True)
class TracedAttempt:
    """An attempt, running or not."""

    number: int
    fence: int
    status: str
    began_at: datetime
    ended_at: datetime | None
    error_type: str | None


@dataclass(frozen=True, slots=True)
class TracedStep:
    """A step. `began_at`: when it became ready for the first time; `attempts`, the number of its last one."""

    key: str
    status: str
    kind: str
    type: str | None
    queue: str
    attempts: int
    began_at: datetime | None
    ended_at: datetime | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TracedRun:
    """A run, and what stands in it of its beginning."""

    id: UUID
    flow: str
    status: str
    manifest_hash: str
    trigger: str
    trace: Mapping[str, str] | None
    created_at: datetime
    ended_at: datetime | None
    source: Trace | None = None
    """Of the run that it is a rerun of."""
    parent: Trace | None = None
    """Of the run that called it, by the step `parent_step`."""
    parent_step: str | None = None
    schedule: str | None = None
    scheduled_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class StepPast:
    """A step with one of its attempts and the one before that, as far as there are."""

    run: TracedRun
    step: TracedStep
    attempt: TracedAttempt | None
    before: TracedAttempt | None


@dataclass(frozen=True, slots=True)
class RunPast:
    """A run that ended, with those of its steps whose ends nobody told: all but those that a worker ended."""

    run: TracedRun
    steps: Sequence[TracedStep]


@dataclass(frozen=True, slots=True)
class Place:
    """What the flow says of a step: the step that it is inside of, the steps before it, if they are several, and its
    condition."""

    inside: str | None = None
    joins: tuple[str, ...] = ()
    when: str | None = None


class Past(Protocol):
    """Where spans find what facts do not say. Each may ask the ledger."""

    def step(self, run_id: UUID, step_key: str, attempt: int | None) -> StepPast | None:
        """A step, with that attempt of it, or its last one; None: there is no such step any more."""

    def run(self, run_id: UUID) -> RunPast | None:
        """A run that ended; None: it is gone."""

    def place(self, manifest_hash: str, step_key: str) -> Place:
        """What the flow says of the step."""

    def is_plain(self, manifest_hash: str) -> bool:
        """Whether workers tell of all ends in a run of this version, when it succeeds."""
