"""A run while a transaction holds its row: what the general path works on."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from orchestrator.core.facts import StepOf
from orchestrator.core.happened import RunOf
from orchestrator.core.plan import Plan
from orchestrator.core.taint import FlowSecrets
from orchestrator.ledger import graph
from orchestrator.ledger.graph import LockedRun
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class HeldRun:
    """The run, its plan, and the transaction that holds it."""

    ledger: Ledger
    tx: Connection
    run: LockedRun

    @classmethod
    def lock(cls, ledger: Ledger, tx: Connection, run_id: UUID, *, against_claims: bool = False) -> "HeldRun":
        """
        Raises:
            RunNotFound: no such run.
        """
        return cls(ledger, tx, graph.lock(tx, run_id, against_claims=against_claims))

    @property
    def id(self) -> UUID:
        return self.run.id

    def as_fact(self) -> RunOf:
        """It, for observers."""
        return RunOf(self.run.id, self.run.flow, self.run.trigger)

    def step(self, step_key: str, attempt: int | None = None) -> StepOf:
        """A step of it, for observers."""
        node = self.plan.node(step_key)
        run = self.run
        return StepOf(run.id, run.flow, run.trigger, step_key, node.definition.type, node.queue, attempt)

    @property
    def secrets(self) -> FlowSecrets:
        """What must not be shown of it."""
        return self.ledger.secrets(self.run.manifest_hash)

    @property
    def plan(self) -> Plan:
        """Of the version that the run is pinned to."""
        return self.ledger.plan(self.run.manifest_hash)
