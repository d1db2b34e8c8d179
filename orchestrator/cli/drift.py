"""The flows of the code beside those of the ledger."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli.options import connected
from orchestrator.core.states import OPEN_RUN
from orchestrator.errors import SettingsInvalid, Unavailable

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.core.manifest import Manifest

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Drift:
    """One flow of the code. `state`: new, changed, unchanged, or unknown (the ledger was not asked)."""

    flow: str
    version: str
    manifest_hash: str
    steps: int
    state: str
    older_runs: int | None


def compare(manifests: "Mapping[str, Manifest]") -> tuple[list[Drift], bool]:
    """A row per flow, and whether the ledger answered."""
    try:
        with connected() as client:
            current, open_runs = _ledger(client)
    except (Unavailable, SettingsInvalid):
        return [_row(manifest, "unknown", None) for manifest in manifests.values()], False
    rows = []
    for name, manifest in sorted(manifests.items()):
        known = current.get(name)
        state = "new" if known is None else "unchanged" if known == manifest.hash else "changed"
        older = sum(n for (flow, version), n in open_runs.items() if flow == name and version != manifest.hash)
        rows.append(_row(manifest, state, older))
    return rows, True


def _row(manifest: "Manifest", state: str, older: int | None) -> Drift:
    return Drift(manifest.name, manifest.version, manifest.hash, len(manifest.steps), state, older)


def _ledger(client: "Client") -> tuple[dict[str, str], Counter[tuple[str, str]]]:
    """Flow to current manifest, and the open runs of each manifest."""
    from orchestrator.ledger import reads

    current = {row.name: row.manifest_hash for row in client.call(reads.flows)}
    runs = [run for status in sorted(OPEN_RUN) for run in client.runs(status=status, limit=_MOST)]
    return current, Counter((run.flow, run.manifest_hash) for run in runs)
