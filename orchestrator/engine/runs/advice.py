"""What to do about a run that did not succeed. A retry is advised only where it can help and does no harm."""

import re
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.core.facts import Explanation
from orchestrator.core.reopen import compensated
from orchestrator.core.states import RunStatus, StepStatus
from orchestrator.core.wording import named
from orchestrator.ledger import controls
from orchestrator.ledger.reads.rows import RunRow
from orchestrator.ledger.tx import Ledger

_OURS: Final = "orchestrator."
_NEVER: Final = frozenset({f"{_OURS}errors.InputInvalid"})
"""Errors about values that a retry would find unchanged."""
_DECIDED: Final = frozenset({"ConditionInvalid", "ExpressionInvalid", "InputInvalid", "RequirementFailed"})
"""What the engine itself said of values that are recorded: a retry says it again."""
_CODE: Final = re.compile(r"\s*\[\w+\]$")
"""Behind the message of an error of ours."""


def advice(ledger: Ledger, row: RunRow) -> Explanation:
    """The fix for a run that did not succeed, and the command for it, if one helps."""
    retry, show = f"orchestrator run retry {row.id}", f"orchestrator run show {row.id}"
    if done := _compensated(ledger, row):
        return Explanation(
            f"{done} ran because of the failure, and a retry does not take that back: it would run again what failed, "
            f"and is refused without --force. Look at it with `{show}`; if its work is still wanted, start a new run.",
            show,
        )
    if row.status is RunStatus.CANCELLED:
        return Explanation(f"if it is wanted after all, `{retry}` goes on with it.", retry)
    error = row.error or {}
    if error.get("type") in _NEVER:
        step = f"{row.id}/{error['step']}" if error.get("step") else str(row.id)
        look = f"orchestrator run show {step}"
        return Explanation(
            "the input of a run does not change, so a retry helps only after a deploy that accepts it. Look at it with "
            f"`{look}`, and start a new run with another input.",
            look,
        )
    if error.get("type") in _DECIDED:
        again = f"orchestrator run rerun {row.id} --input @FILE"
        return Explanation(
            "what it read is recorded, so a retry finds the same. Run it again with another input "
            f"(`{again}`), or settle the step by hand (`orchestrator run mark {row.id} {error['step']} --output JSON "
            "--reason WHY`).",
            show,
        )
    cause = told(error)[1] or "correct the cause"
    return Explanation(f"{cause}, then `{retry}` runs it again.", retry)


def told(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """What a run's error says; and apart from that, as it comes last, the fix that an error of ours names."""
    message = str(error.get("message", "unknown"))
    if not str(error.get("type", "")).startswith(_OURS):
        return message.rstrip("."), None
    what, _, fix = _CODE.sub("", message).partition(" Fix: ")
    return what.rstrip("."), fix.rstrip(".") or None


def _compensated(ledger: Ledger, row: RunRow) -> str:
    """The steps that were there for a failure only and succeeded."""
    with ledger.auto() as tx:
        states = controls.step_states(tx, row.id)
    again = {key for key, status in states.items() if status is not StepStatus.SUCCEEDED}
    done = compensated(ledger.plan(row.manifest_hash), states, again)
    return named("Step", list(done)) if done else ""
