"""Which code is wanted: the current versions of flows, and those that open runs are pinned to."""

from orchestrator.core import smoke
from orchestrator.core.releases import Wanted
from orchestrator.core.states import StepKind
from orchestrator.errors import ManifestUnreadable
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger


def wanted(ledger: Ledger) -> list[Wanted]:
    """By flow, the newest version of each first. Not the flow of smoke tests: every worker has it."""
    with ledger.auto() as tx:
        rows = run(tx, "wanted_versions").all()
    return [Wanted(**row._mapping, tasks=_tasks(ledger, row.manifest_hash)) for row in rows if row.flow != smoke.FLOW]


def _tasks(ledger: Ledger, manifest_hash: str) -> frozenset[str]:
    try:
        nodes = ledger.plan(manifest_hash).every()
    except ManifestUnreadable:
        return frozenset()
    return frozenset(node.task for node in nodes if node.kind is StepKind.TASK and node.task is not None)
