"""Places in a field, each behind links of its own. Whoever stands there may change."""

from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.settings import Settings
from tests.edge.doors import Api
from tests.soak.wire import Wire
from tests.support.beat_process import ForkedBeat
from tests.support.nursery import Forked, all_of


@dataclass
class Post:
    """A place for one worker, behind links of its own. Whoever stands there may change."""

    name: str
    pool: str
    concurrency: int
    postgres: Wire
    valkey: Wire
    settings: Settings
    leads: bool = False
    """Each new release comes here first, and a worker of the newest stays."""
    worker: Forked | None = None
    pids: set[int] = field(default_factory=set)
    """Every process that ever worked here."""
    logs: list[Path] = field(default_factory=list)

    def look(self) -> frozenset[int]:
        """The living processes of the worker, remembered for the record."""
        living = frozenset(all_of([self.worker.pid])) if self.worker is not None else frozenset()
        self.pids |= living
        return living


@dataclass
class BeatPost:
    """A place for one beat, behind links of its own."""

    name: str
    postgres: Wire
    valkey: Wire
    settings: Settings
    beat: ForkedBeat | None = None
    starts: int = 0

    @property
    def alive(self) -> bool:
        return self.beat is not None and self.beat.alive

    @property
    def leads(self) -> bool:
        return self.beat is not None and self.beat.alive and self.beat.leads


@dataclass
class DoorPost:
    """A place for one process of the API, behind links of its own."""

    name: str
    port: int
    postgres: Wire
    valkey: Wire
    settings: Settings
    api: Api | None = None
    starts: int = 0

    @property
    def alive(self) -> bool:
        return self.api is not None and self.api.alive
