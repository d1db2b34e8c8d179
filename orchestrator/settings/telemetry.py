"""Settings: what the processes tell of themselves."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from orchestrator.settings.values import Duration, listen_address, upper


class Telemetry(BaseModel):
    """What the processes tell of themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(upper),
    ] = "INFO"
    """Lines below this level are not written."""
    metrics: Literal["off", "keys", "open"] = "keys"
    """Whom the API shows its metrics and the exporter's: nobody; who has a key for them; or whoever reaches it."""
    health_address: Annotated[str, AfterValidator(listen_address)] | None = None
    """Where a worker, a beat or a keeper answers probes: :8081, or 127.0.0.1:8081; nowhere, when it is not set."""
    hang_after: Duration = timedelta(seconds=60)
    """How long one of its loops may stand still before its liveness fails."""
