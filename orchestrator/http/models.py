"""What only the API says: answers to what was done. What is read are the rows that the client gives."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, model_validator

from orchestrator.client.wanted import Wanted
from orchestrator.core.operations import MOST_IDS, Action
from orchestrator.core.states import RunStatus
from orchestrator.engine.runs.shown import Seen

_MOST_NAMES: Final = 100


class Strict(BaseModel):
    """What a body is, or an answer: all of it is known. Lists of a body are `fail_fast`: they may be long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _is_not_much_else(cls, given: Any) -> Any:
        """There may be a hundred thousand unknown names, and each would be an error of its own."""
        if isinstance(given, dict) and len(given) > _MOST_NAMES:
            raise ValueError(f"There are {len(given)} names, and {len(cls.model_fields)} at most are known")
        return given


Flag = Annotated[bool, Field(strict=True)]
"""Of a body: `"no"` and 0 are refused."""


class Started(Strict):
    """A run that was started, or was before with the same key: then `created` is false. Where its end was waited for,
    and it has ended, with what it returned or why it failed; secrets are `***`."""

    id: UUID
    flow: str
    status: RunStatus
    created: bool
    output: JsonValue = None
    error: Mapping[str, JsonValue] | None = None


class BatchItem(Strict):
    """One of many: a run, or why there is none."""

    id: UUID
    created: bool


class Batch(Strict):
    """Runs to start, in one commit: all of them or none."""

    inputs: Annotated[list[Mapping[str, JsonValue]], Field(fail_fast=True, min_length=1, max_length=500)]
    idempotency_keys: Annotated[list[str], Field(fail_fast=True, max_length=500)] | None = None
    tags: list[str] = Field(default_factory=list, fail_fast=True, max_length=50)
    headers: Annotated[Mapping[str, str], Field(max_length=1000)] | None = None
    """Of the request that they are started for."""
    start_after: str | None = None


class BatchStarted(Strict):
    """In the order of the inputs."""

    items: Sequence[BatchItem]


class Why(Strict):
    """Why something is done, for the record."""

    reason: Annotated[str, Field(max_length=2000)] | None = None


class Standing(Strict):
    """Where a run stands after what was done."""

    id: UUID
    status: RunStatus


class Switched(Strict):
    """A flow, on or off."""

    flow: str
    enabled: bool


class Deploy(Strict):
    """Which version: a registered one by its number, or that of the code by its manifest."""

    version: Annotated[int, Field(ge=1)] | None = None
    manifest: Mapping[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.version is None) == (self.manifest is None):
            raise ValueError("give `version` or `manifest`")
        return self


class GivenOutputs(Strict):
    """What steps of open runs gave; `left`: so many more cannot be shown."""

    values: Sequence[JsonValue]
    left: int


class Unserved(Strict):
    unserved: bool


class Retry(Strict):
    """`force`: also where a step that makes up for the failure has succeeded. `fresh`: steps that called a flow call it
    anew."""

    force: Flag = False
    fresh: Flag = False


class Again(Strict):
    """Whole with the same input, unless something else is said: another `input`, or `changes` of it. `dry_run`: only
    say what would be kept and run."""

    from_step: str | None = None
    input: Mapping[str, JsonValue] | None = None
    changes: Mapping[str, JsonValue] | None = None
    dry_run: Flag = False


class Mark(Strict):
    """The output that somebody made by hand, and why."""

    output: JsonValue
    reason: Annotated[str, Field(min_length=1, max_length=2000)]


class Skip(Strict):
    reason: Annotated[str, Field(min_length=1, max_length=2000)]


class Control(Strict):
    """What was asked of a run."""

    cancel_requested_at: datetime | None
    cancel_reason: str | None
    deadline: datetime | None
    epoch: int
    start_at: datetime | None


class Delivered(Strict):
    """What became of a delivery to a webhook: `started`, `seen`, `signalled` or `handshake`."""

    id: UUID
    outcome: str
    run_id: UUID | None


class Value(Strict):
    """A value; `masked`: there are secrets in it, which are `***`."""

    value: JsonValue
    masked: bool = False

    @classmethod
    def of(cls, seen: Seen) -> Self:
        return cls(value=seen.value, masked=seen.masked)


class Operate(Strict):
    """What is to be done to which runs: those that the query and the other parameters of `/runs` match, or those with
    these ids. `dry_run`: only say how many, and get a `token`; with it, the operation says what had been foreseen.
    `force` and `fresh` are of a retry."""

    action: Action
    q: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    flow: Annotated[str, Field(max_length=100)] | None = None
    status: list[RunStatus] = Field(default_factory=list, fail_fast=True, max_length=20)
    tag: Annotated[str, Field(max_length=100)] | None = None
    key: Annotated[str, Field(max_length=255)] | None = None
    schedule: Annotated[str, Field(max_length=201)] | None = None
    error: Annotated[str, Field(max_length=200)] | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    ids: Annotated[list[UUID], Field(fail_fast=True, min_length=1, max_length=MOST_IDS)] | None = None
    reason: Annotated[str, Field(max_length=2000)] = ""
    dry_run: Flag = False
    token: Annotated[str, Field(max_length=100)] | None = None
    force: Flag = False
    fresh: Flag = False

    def wanted(self) -> Wanted:
        """Which runs, without their ids."""
        found: Wanted = {"q": self.q, "flow": self.flow, "status": self.status, "tag": self.tag, "key": self.key}
        return found | {"schedule": self.schedule, "error": self.error, "since": self.since, "until": self.until}
