"""Settings: how the ledger is reached."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from orchestrator.settings.urls import normalise_database_url
from orchestrator.settings.values import Count, Duration, Flag, secret


class Database(BaseModel):
    """How the ledger is reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: Annotated[SecretStr, secret(normalise_database_url)] | None = None
    """PostgreSQL 15 or newer: postgresql://user:password@host:5432/database."""
    database_pooler: Literal["none", "session", "transaction"] = "none"
    """What `database_url` leads to: PostgreSQL itself, or a pooler in that mode."""
    database_direct_url: Annotated[SecretStr, secret(normalise_database_url)] | None = None
    """PostgreSQL without the pooler, for migrations and `doctor`; they go through the pooler when it is not set."""
    database_read_url: Annotated[SecretStr, secret(normalise_database_url)] | None = None
    """A standby from which lists of runs are read; the primary, when it is not set."""
    database_read_max_lag: Duration = timedelta(seconds=10)
    """How far behind it may be; then they are read from the primary."""
    database_pool_size: Count = Field(default=5, ge=1, le=1000)
    """Connections one process keeps to PostgreSQL."""
    database_max_overflow: Count = Field(default=5, ge=1, le=1000)
    """Connections it opens beside those under load, and closes again."""
    database_disk: Annotated[Count, Field(ge=1_000_000, le=10**16)] | None = None
    """Bytes that the disk of PostgreSQL holds, for the exporter: then there is an alert before it is full."""
    statement_timeout: Duration = timedelta(seconds=5)
    """PostgreSQL ends a statement of the engine that takes longer."""
    migrate: Flag = True
    """Apply migrations at start."""
    sim_database_url: Annotated[SecretStr, secret(normalise_database_url)] | None = None
    """A server where the test kit may make databases and drop them; without it, it starts one of its own."""
