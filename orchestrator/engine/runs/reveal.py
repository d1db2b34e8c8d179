"""Values with their secrets, for somebody who may see them. The audit has who asked before they are told: where it
cannot be written, nothing is told."""

from uuid import UUID

from pydantic import JsonValue

from orchestrator.core.access import Act, Actor
from orchestrator.engine.access import audit
from orchestrator.ledger import reads
from orchestrator.ledger.tx import Ledger


def result(ledger: Ledger, run_id: UUID, actor: Actor, reason: str | None = None) -> JsonValue:
    """What a run returned.

    Raises:
        RunNotFound, OutputInvalid: there is no such run; its output cannot be made.
    """
    value = reads.runs.result(ledger, run_id)
    audit.keep(ledger, actor, Act("run.reveal", f"runs/{run_id}/output", reason=reason))
    return value


def output(ledger: Ledger, run_id: UUID, step_key: str, actor: Actor, reason: str | None = None) -> JsonValue:
    """What a step returned.

    Raises:
        RunNotFound, StepNotFound: there is no such step, or it has no output.
    """
    value = reads.steps.output(ledger, run_id, step_key)
    audit.keep(ledger, actor, Act("step.reveal", f"runs/{run_id}/steps/{step_key}/output", reason=reason))
    return value
