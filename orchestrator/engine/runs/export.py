"""What belongs to a run, a page at a time and without its secrets: to be kept elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from pydantic import JsonValue

from orchestrator.core.taint import FlowSecrets
from orchestrator.errors import PayloadLost
from orchestrator.ledger import exports
from orchestrator.ledger.reads.rows import AttemptRow
from orchestrator.ledger.tx import Ledger

FIRST = ("", 0)
"""Before every step and attempt."""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step returned; or why that cannot be read any more."""

    step: str
    output: JsonValue
    lost: str | None = None


def attempts(
    ledger: Ledger, run_id: UUID, manifest_hash: str, after: tuple[str, int], limit: int
) -> list[tuple[str, AttemptRow]]:
    """A page of the attempts that ended, each with the key of its step, from the one after this step and number."""
    secrets = ledger.secrets(manifest_hash)
    with ledger.auto() as tx:
        found = exports.attempts(tx, run_id, after, limit)
    return [(key, replace(one, inputs=secrets.shown(one.inputs, secrets.step(key).inputs))) for key, one in found]


def outputs(ledger: Ledger, run_id: UUID, manifest_hash: str, after: str, limit: int) -> list[StepOutput]:
    """A page of what its steps returned, from the one after this step.

    Raises:
        PayloadUnavailable: one is in the payload store, and that cannot be reached.
    """
    secrets = ledger.secrets(manifest_hash)
    with ledger.auto() as tx:
        found = exports.outputs(ledger, tx, run_id, after, limit)
    return [_output(secrets, key, read) for key, read in found]


def _output(secrets: FlowSecrets, key: str, read: Callable[[], JsonValue]) -> StepOutput:
    try:
        return StepOutput(key, secrets.shown(read(), secrets.step(key).output))
    except PayloadLost as exc:
        return StepOutput(key, None, exc.message)
