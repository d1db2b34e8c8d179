"""What `orchestrator dev` is asked to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.errors import UsageError


@dataclass(frozen=True)
class DevOptions:
    """`port_base` N: PostgreSQL listens on N, the broker on N+1, Flower on N+2, the API on N+3; None: free ports, which
    are remembered.

    Raises:
        UsageError: a number is out of range.
    """

    flows: tuple[str, ...] = ()
    """Empty: ORCHESTRATOR_FLOWS."""
    workers: int = 1
    pool: Literal["prefork", "threads"] = "prefork"
    concurrency: int = 2
    """Steps at once, per worker."""
    data_dir: Path | None = None
    """None: `.orchestrator` in the current folder."""
    port_base: int | None = None
    output: Literal["table", "json"] = "table"

    def __post_init__(self) -> None:
        _within("--workers", self.workers, 1, 64)
        _within("--concurrency", self.concurrency, 1, 1000)
        if self.port_base is not None:
            _within("--port-base", self.port_base, 1024, 65532)
        if self.pool not in ("prefork", "threads"):
            raise UsageError(f"--pool {self.pool} is not known. Fix: use prefork or threads.")
        if self.output not in ("table", "json"):
            raise UsageError(f"--output {self.output} is not known. Fix: use table or json.")

    def port(self, offset: int) -> int | None:
        return None if self.port_base is None else self.port_base + offset


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} {value} is out of range. Fix: use a number from {low} to {high}.")
