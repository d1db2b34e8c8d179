"""Start the flow that does nothing, once through each queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from orchestrator.core import smoke
from orchestrator.core.facts import Dispatch, StartRequest
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.ledger.tx import Ledger


@dataclass(frozen=True, slots=True)
class Canary:
    """A run that a worker of `queue` has to end."""

    queue: str
    run_id: UUID


def begin(ledger: Ledger, queues: Sequence[str], by: str) -> tuple[list[Canary], tuple[Dispatch, ...]]:
    """A run for each of the queues; and what has to be published."""
    requests = []
    for queue in queues:
        manifest = smoke.through(queue)
        register.keep(ledger, manifest, by)
        requests.append(StartRequest(smoke.FLOW, version=manifest.hash, trigger="smoke"))
    started = start_run.start(ledger, requests)
    canaries = [Canary(queue, one.run_id) for queue, one in zip(queues, started, strict=True)]
    return canaries, tuple(dispatch for one in started for dispatch in one.dispatches)
