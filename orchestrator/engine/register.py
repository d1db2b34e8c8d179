"""Register a flow: keep every version, make this one current."""

from orchestrator.core.manifest import Manifest
from orchestrator.ledger import definitions
from orchestrator.ledger.tx import Ledger


def register(ledger: Ledger, manifest: Manifest) -> None:
    """Upsert the flow. Runs in flight keep the version they started with; an unchanged flow is not written."""
    ledger.retry(lambda tx: definitions.register(tx, manifest))
