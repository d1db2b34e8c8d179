"""Settings: how steps are run, and what is kept of them."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from orchestrator.core.loops import LOOP_LIMIT
from orchestrator.core.payload import CAP, THRESHOLD
from orchestrator.core.scaling import Group
from orchestrator.settings.values import Count, Duration, Flag, json_object, names, store


class Work(BaseModel):
    """How steps are run, and what is kept of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flows: Annotated[tuple[str, ...], BeforeValidator(names)] = ()
    """Modules or .py files that define flows, comma separated."""
    lease: Duration = timedelta(seconds=30)
    """How long a claimed step stays its worker's without a renewal."""
    heartbeat: Duration = timedelta(seconds=10)
    """How often a worker renews its leases; at most a third of `lease`."""
    sweep_interval: Duration = timedelta(seconds=5)
    """How often the keeper looks for due timers, expired leases and lost messages."""
    redispatch_after: Duration = timedelta(seconds=15)
    """Age at which a published but unclaimed dispatch may have been lost and is published again."""
    cancel_grace: Duration = timedelta(seconds=10)
    """Time a running handler has to notice a cancellation before it is ended."""
    stop_grace: Duration | None = None
    """How long a worker that is told to stop takes: shortly before, it hands back the steps that still run, uncharged.
    As long as its longest running step, when it is not set."""
    worker_ttl: Duration = timedelta(seconds=30)
    """A worker not seen for this long is dead; at least two heartbeats."""
    crash_limit: Count = Field(default=3, ge=0, le=1000)
    """Re-runs of one step after its process died that are not charged as attempts."""
    deploy_limit: Count = Field(default=100, ge=0, le=100_000)
    """Re-runs of one step whose worker was told to stop and ended before the step did; they do not count as crashes."""
    loop_limit: Count = Field(default=LOOP_LIMIT, ge=1000, le=10_000_000)
    """Items that one loop may have."""
    events: Literal["all", "essential"] = "all"
    """Which events are kept: all, or only those that cannot be derived from attempts, claims and dispatches."""
    secret_names: Annotated[tuple[str, ...], BeforeValidator(names)] = ()
    """Fields that are secret by their names in every flow, besides those that always are."""
    payload_store: Annotated[str, AfterValidator(store)] | None = None
    """Where long outputs are kept: file:///folder that every host mounts, or s3://bucket/folder; none: in the
    ledger."""
    payload_threshold: Count = Field(default=THRESHOLD, ge=1024, le=100_000_000)
    """Bytes of JSON from which an output goes to the store."""
    payload_cap: Count = Field(default=CAP, ge=1024, le=1_000_000_000)
    """Bytes of JSON that an output may have, where there is a store."""
    retention: Duration | None = None
    """Runs that ended this long ago are removed with their steps, outputs and events; never when it is not set."""
    release: Annotated[str, Field(pattern=r"^[\w.:/@+-]{1,100}$")] | None = None
    """What the code of the flows is called: the tag of its image, a commit. Workers of one name are one release."""
    deploy_at_start: Flag = False
    """A worker that starts makes its versions current, superseded or not."""
    scaling_groups: Annotated[dict[str, Group], BeforeValidator(json_object)] = {}
    """Workers that are scaled together, as JSON: {"default": {"queues": ["default"], "slots": 4, "max": 20}}."""
