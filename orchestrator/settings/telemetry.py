"""Settings: what the processes tell of themselves."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from orchestrator.settings.values import upper


class Telemetry(BaseModel):
    """What the processes tell of themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(upper),
    ] = "INFO"
    """Lines below this level are not written."""
