"""The worker registry: which workers there are, and what they can run."""

from orchestrator.core.facts import WorkerInfo
from orchestrator.ledger import workers
from orchestrator.ledger.tx import Ledger


def hello(ledger: Ledger, info: WorkerInfo) -> None:
    """A worker process introduces itself."""
    ledger.retry(lambda tx: workers.hello(tx, info))


def seen(ledger: Ledger, worker_id: str, *, consuming: bool, stopping: bool = False) -> bool:
    """It is still there; `consuming` when its probe came back, `stopping` when it was told to stop: what it leaves
    behind then does not count as a crash. False: say hello again."""
    with ledger.auto() as tx:
        return workers.seen(tx, worker_id, consuming=consuming, stopping=stopping)


def refuse(ledger: Ledger, worker_id: str, pair: str, why: str) -> None:
    """It does not take steps of a task in one version of its flow (`task@manifest hash`): its code does not fit."""
    with ledger.auto() as tx:
        workers.refuse(tx, worker_id, pair, why)


def gone(ledger: Ledger, worker_id: str) -> None:
    """It stopped."""
    ledger.retry(lambda tx: workers.gone(tx, worker_id))
