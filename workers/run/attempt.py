"""One attempt of one step, as it travels through the stages of `pipeline.py`."""

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from sqlalchemy import Connection

from orchestrator.core.facts import Chain, Failure, Finished, Lease, NotReady
from orchestrator.core.payload import Payload
from orchestrator.core.polling import PollDef
from orchestrator.core.secrets import Paths, leaves, masked, scrubbed
from orchestrator.ledger.tx import Ledger
from orchestrator.observe.scope import Scope
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
    inputs: str | None = field(default=None, repr=False)
    """What the handler is given, as JSON text, once it was read."""
    kwargs: dict[str, Any] = field(default_factory=dict, repr=False)
    called: bool = False
    """Whether the handler was called."""
    value: Any = field(default=None, repr=False)
    """What it returned."""
    output: str = field(default="", repr=False)
    """The same, as JSON text."""
    payload: Payload | None = None
    """Where it is, if not in the ledger."""
    opened: ExitStack = field(default_factory=ExitStack)
    """What the end of the stages closes: the transaction of a transactional step."""
    tx: Connection | None = None
    finished: Finished | None = None
    """What the recorded outcome led to; None, none was recorded."""
    asked: float = 0.0
    """When that was asked for: the lease of a chained step certainly runs from then on."""
    failure: Failure | None = None
    """How it failed, if it did."""
    polls: bool = False
    """Whether its step does; known once its handler returned."""
    not_ready: NotReady | None = None
    """What a step that polls said, if it is not ready."""
    scope: Scope = field(init=False)
    """What its log lines carry."""
    _secrets: tuple[str | None, str, set[str]] | None = field(default=None, repr=False)
    """The secrets in its inputs and its output, as they were then."""

    def __post_init__(self) -> None:
        self.lease = self.held.lease
        self.step = self.worker.handlers[self.lease.task]
        self.runtime = self.worker.runtime()
        self.scope = Scope(self.lease, self.secrets)

    @property
    def ledger(self) -> Ledger:
        return self.runtime.ledger

    @property
    def poll(self) -> PollDef | None:
        """How the step polls, in the version that its run is pinned to."""
        return self.ledger.plan(self.lease.manifest_hash).node(self.lease.step_key).definition.poll

    @property
    def shown_inputs(self) -> str | None:
        """What is recorded of the inputs: without their secrets."""
        paths = self._secret_inputs
        if self.inputs is None or not paths:
            return self.inputs
        names = self.ledger.secrets(self.lease.manifest_hash).names
        return json.dumps(masked(json.loads(self.inputs), paths, names), ensure_ascii=False)

    def scrubbed(self, text: str) -> str:
        """A text that is recorded and logged, such as the message of an exception, without the secrets that the
        handler was given or returned."""
        found = self.secrets()
        return scrubbed(text, found) if found else text

    def secrets(self) -> set[str]:
        """The texts of the secrets that the handler was given, and of those that it returned. Asked by each line that
        is logged, so they are looked for once."""
        known = self._secrets
        if known is None or known[0] is not self.inputs or known[1] is not self.output:
            found = self._texts_of(self.inputs, self._secret_inputs) | self._texts_of(self.output, self._secret_output)
            known = self._secrets = self.inputs, self.output, found
        return known[2]

    @staticmethod
    def _texts_of(value: str | None, paths: Paths) -> set[str]:
        return leaves(json.loads(value), paths) if value and paths else set()

    @property
    def _secret_inputs(self) -> Paths:
        return self.ledger.secrets(self.lease.manifest_hash).given(self.lease.step_key, self.step)

    @property
    def _secret_output(self) -> Paths:
        return self.ledger.secrets(self.lease.manifest_hash).step(self.lease.step_key).output

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
