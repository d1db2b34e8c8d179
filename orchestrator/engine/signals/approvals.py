"""What somebody is asked: the answers that runs wait for, and answering."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Row

from orchestrator.core.plan import Plan
from orchestrator.core.signals import Awaited
from orchestrator.core.states import StepStatus
from orchestrator.engine.signals import below
from orchestrator.errors import ApprovalNotFound, ManifestUnreadable
from orchestrator.ledger import reads, signals
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Approval:
    """An answer that a run waits for, or waited for. `form`: the JSON Schema that it has to fit. `late`: when time is
    over, the run goes on without one; else its step fails then."""

    run_id: UUID
    step: str
    flow: str
    title: str
    to: str
    show: JsonValue
    form: Mapping[str, JsonValue]
    status: StepStatus
    asked_at: datetime
    deadline: datetime | None
    late: bool
    answered_by: str | None
    answered_at: datetime | None

    @property
    def id(self) -> str:
        """As commands name it."""
        return f"{self.run_id}/{self.step}"


def open_(ledger: Ledger, to: str | None, after: tuple[UUID, str] | None, limit: int) -> list[Approval]:
    """A page of those that wait for somebody, or for anybody, the oldest first."""
    with ledger.auto() as tx:
        rows = signals.open_approvals(tx, to, after, limit)
    return [_approval(ledger, row) for row in rows]


def get(ledger: Ledger, run_id: UUID, step_key: str) -> Approval:
    """
    Raises:
        RunNotFound, ApprovalNotFound: there is none, or nobody was asked yet.
    """
    with ledger.auto() as tx:
        row = signals.approval(tx, run_id, step_key)
        child = None if row is not None else below.waits_for(ledger, tx, run_id, step_key, answers=True)
    if row is None:
        reads.runs.status(ledger, run_id)
        raise not_asked(f"has not asked anybody at step {step_key!r:.100}", run_id, step_key, child)
    return _approval(ledger, row)


def asks(ledger: Ledger, run_id: UUID, name: str) -> bool:
    """Whether a signal of this name is the answer to an approval.

    Raises:
        RunNotFound: no such run.
    """
    return any(one.wait.approval is not None for one in reads.runs.plan_of(ledger, run_id).expected(name))


def first_asking(ledger: Ledger, run_id: UUID, steps: Iterable[str]) -> str | None:
    """The first of these steps that asks for an answer, or holds one that does; steps that the run has not, ask nobody.

    Raises:
        RunNotFound: no such run.
    """
    plan = reads.runs.plan_of(ledger, run_id)
    return next((step for step in steps if _asks(plan, step)), None)


def _asks(plan: Plan, step: str) -> bool:
    try:
        inside = plan.node(step).every()
    except KeyError:
        return False
    return any(one.awaited is not None and one.awaited.approval is not None for one in inside)


def not_asked(what: str, run_id: UUID, step_key: str, child: Row[Any] | None) -> ApprovalNotFound:
    """`child`: the run that was meant, most likely."""
    facts = {"run_id": str(run_id), "step_key": step_key}
    if child is None:
        return ApprovalNotFound(f"Run {run_id} {what}. Fix: `orchestrator approval ls` lists what is asked.", **facts)
    fix = f"name that one: `orchestrator approval show {child.id}/{step_key}`"
    return ApprovalNotFound(f"Run {run_id} {what}; {below.named(child)} may. Fix: {fix}.", **facts, child=str(child.id))


def _approval(ledger: Ledger, row: Row[Any]) -> Approval:
    awaited = _awaited(ledger, row.manifest_hash, row.step_key)
    return Approval(
        row.run_id,
        row.step_key,
        row.flow,
        row.title,
        row.assignee,
        row.shown,
        {} if awaited is None else awaited.form,
        StepStatus(row.status),
        row.created_at,
        row.deadline,
        awaited is not None and awaited.default is not None,
        row.delivered_by,
        row.delivered_at,
    )


def _awaited(ledger: Ledger, manifest_hash: str, step_key: str) -> Awaited | None:
    try:
        return ledger.plan(manifest_hash).node(step_key).awaited
    except ManifestUnreadable:  # of a newer release: what is asked can be listed all the same
        return None
