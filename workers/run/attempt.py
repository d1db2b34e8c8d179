"""One attempt of one step, as it travels through the stages of `pipeline.py`."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from orchestrator.core.facts import Chain, Failure, Finished, Lease, NotReady
from orchestrator.core.polling import PollDef
from orchestrator.ledger.tx import Ledger
from orchestrator.workers.run.held_lease import HeldLease
from orchestrator.workers.run.outage import Outage
from orchestrator.workers.state import AnyStep, Runtime, WorkerState


@dataclass(slots=True, eq=False)
class Attempt:
    """What is known so far. Each stage reads what those before it found, and adds its own."""

    worker: WorkerState
    held: HeldLease
    may_chain: bool = True
    began: float = field(default_factory=monotonic)
    lease: Lease = field(init=False)
    step: AnyStep = field(init=False)
    runtime: Runtime = field(init=False)
    inputs: str | None = None
    """What the handler is given, as JSON text, once it was read."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    called: bool = False
    """Whether the handler was called."""
    value: Any = None
    """What it returned."""
    output: str = ""
    """The same, as JSON text."""
    opened: ExitStack = field(default_factory=ExitStack)
    """What the end of the stages closes: the transaction of a transactional step."""
    tx: Connection | None = None
    finished: Finished | None = None
    """What the recorded outcome led to; None, none was recorded."""
    asked: float = 0.0
    """When that was asked for: the lease of a chained step certainly runs from then on."""
    failure: Failure | None = None
    """How it failed, if it did."""
    not_ready: NotReady | None = None
    """What a step that polls said, if it is not ready."""

    def __post_init__(self) -> None:
        self.lease = self.held.lease
        self.step = self.worker.handlers[self.lease.task]
        self.runtime = self.worker.runtime()

    @property
    def ledger(self) -> Ledger:
        return self.runtime.ledger

    @property
    def poll(self) -> PollDef | None:
        """How the step polls, in the version that its run is pinned to."""
        return self.ledger.plan(self.lease.manifest_hash).node(self.lease.step_key).definition.poll

    @property
    def lease_s(self) -> float:
        """Seconds that a lease lasts."""
        return self.worker.settings.lease.total_seconds()

    def outage(self, leases: int = 1) -> Outage:
        """Patience with a ledger that is away, for this many leases."""
        return Outage(leases * self.lease_s)

    @property
    def chain(self) -> Chain | None:
        """What this worker would take next."""
        if self.worker.stopping or not self.may_chain:
            return None
        return Chain(self.worker.settings.lease, self.worker.versions.tasks(self.lease.manifest_hash))
