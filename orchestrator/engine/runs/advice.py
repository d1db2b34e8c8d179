"""What to do about a run that did not succeed. A retry is advised only where it can help and does no harm."""

from uuid import UUID

from orchestrator.core.facts import Explanation
from orchestrator.core.planner import Plan
from orchestrator.core.states import RunStatus, StepStatus
from orchestrator.ledger import reads
from orchestrator.ledger.reads import RunRow
from orchestrator.ledger.tx import Ledger

_NEVER = frozenset({"InputInvalid"})
"""Errors of values that a retry finds as they were."""


def advice(ledger: Ledger, row: RunRow) -> Explanation:
    """The fix for a run that ended otherwise than well, and the command for it, if one helps."""
    retry, show = f"orchestrator run retry {row.id}", f"orchestrator run show {row.id}"
    if row.status is RunStatus.CANCELLED:
        return Explanation(f"if it is wanted after all, `{retry}` goes on with it.", retry)
    if done := _handled(ledger, row):
        return Explanation(
            f"{done} ran because of the failure, and a retry does not take that back: it would run again what failed. "
            f"Look at it with `{show}`; if its work is still wanted, start a new run.",
            show,
        )
    error = row.error or {}
    if error.get("type") in _NEVER:
        step = f"{row.id}/{error['step']}" if error.get("step") else str(row.id)
        look = f"orchestrator run show {step}"
        return Explanation(
            "the input of a run does not change, so a retry helps only after a deploy that accepts it. Look at it with "
            f"`{look}`, and start a new run with another input.",
            look,
        )
    return Explanation(f"correct the cause, then `{retry}` runs it again.", retry)


def _handled(ledger: Ledger, row: RunRow) -> str:
    """The steps that were there for a failure only and succeeded: what they did (a refund, say) is done."""
    keys = handlers(ledger.plan(row.manifest_hash))
    if not keys:
        return ""
    done = [key for key in keys if _succeeded(ledger, row.id, key)]
    return f"Step {' and '.join(done)}" if done else ""


def handlers(plan: Plan) -> list[str]:
    """Steps that run only when another one has failed."""
    return [
        node.key
        for node in plan.nodes.values()
        if any(
            StepStatus.FAILED in accepted and StepStatus.SUCCEEDED not in accepted
            for accepted in node.definition.run_after.values()
        )
    ]


def _succeeded(ledger: Ledger, run_id: UUID, key: str) -> bool:
    return reads.step(ledger, run_id, key).status is StepStatus.SUCCEEDED
