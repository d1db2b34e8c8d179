"""Settings: what the processes tell of themselves."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from orchestrator.settings.values import Count, Duration, listen_address, lower, upper


class Telemetry(BaseModel):
    """What the processes tell of themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(upper),
    ] = "INFO"
    """Lines below this level are not written."""
    log_format: Annotated[Literal["auto", "line", "json"], BeforeValidator(lower)] = "auto"
    """How lines are written: for people, or as an object of JSON each; auto: for people on a terminal."""
    log_burst: Count = Field(default=100, ge=0, le=1_000_000)
    """Lines of one event that a process writes in a second, ten times as many below WARNING; 0: all."""
    slow_statement: Duration = timedelta(seconds=1)
    """A statement of the engine that takes longer is logged, and counted, by its name."""
    metrics: Literal["off", "keys", "open"] = "keys"
    """Whom the API shows its metrics and the exporter's: nobody; who has a key for them; or whoever reaches it."""
    metrics_series: Count = Field(default=2_000, ge=100, le=1_000_000)
    """Series that a process shows at most; what comes after is counted with `other` for names that are yours."""
    health_address: Annotated[str, AfterValidator(listen_address)] | None = None
    """Where a worker, a beat or a keeper answers probes: :8081, or 127.0.0.1:8081; nowhere, when it is not set."""
    hang_after: Duration = timedelta(seconds=60)
    """How long one of its loops may stand still before its liveness fails."""
    trace_split: Duration = timedelta(hours=1)
    """After a wait that was longer, a run goes on in another trace, linked to the one before."""
