"""Play the worker by hand: claim a step and record how it ended."""

import json
from datetime import timedelta
from uuid import UUID

from orchestrator.core.facts import Claimant, Failure, StepError, Success
from orchestrator.engine.steps import claim_step, fail_step, finish_step
from orchestrator.ledger.tx import Ledger

LEASE = timedelta(seconds=30)


def succeed(ledger: Ledger, run_id: UUID, key: str, output: object, number: int = 1) -> None:
    """Run the step: it gives `output`."""
    lease = claim_step.claim(ledger, run_id, key, number, Claimant("test/1/a", LEASE))
    assert lease is not None, f"{key} cannot be claimed"
    finish_step.finish(ledger, lease, Success(json.dumps(output)))


def fail(ledger: Ledger, run_id: UUID, key: str, message: str = "boom", number: int = 1) -> None:
    """Run the step: it fails for good."""
    lease = claim_step.claim(ledger, run_id, key, number, Claimant("test/1/a", LEASE))
    assert lease is not None, f"{key} cannot be claimed"
    error = StepError("ValueError", message, None)
    fail_step.fail(ledger, lease, Failure(error, retryable=False))


def finish_hello(ledger: Ledger, run_id: UUID) -> None:
    """Both steps of the flow `hello`."""
    succeed(ledger, run_id, "greet", "hello you")
    succeed(ledger, run_id, "measure", {"text": "hello you", "length": 9})
