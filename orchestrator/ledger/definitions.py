"""Flow definitions: the current one by name, every version by hash."""

from datetime import datetime

from sqlalchemy import Connection

from orchestrator.core.manifest import Manifest
from orchestrator.core.schedule_ids import flow_id
from orchestrator.core.suggest import closest
from orchestrator.errors import FlowNotFound, NotFound
from orchestrator.ledger.rows import one, run


def load(tx: Connection, manifest_hash: str) -> Manifest:
    """The manifest of that hash.

    Raises:
        NotFound: it was never registered.
    """
    row = one(tx, "load_manifest", hash=manifest_hash)
    if row is None:
        raise NotFound(
            f"No manifest with hash {manifest_hash[:12]} is in the ledger. Fix: start a worker that has the flow."
        )
    return Manifest.from_json(row.manifest)


def is_registered(tx: Connection, manifest: Manifest) -> bool:
    """Whether it is the current manifest of its flow."""
    found = one(tx, "registered", name=manifest.name, version=manifest.version, hash=manifest.hash)
    return found is not None


def hold(tx: Connection, flow: str) -> None:
    """Hold the flow, if there is one, against registrations and switches."""
    run(tx, "hold_definition", name=flow)


def switch_and_time(tx: Connection, flow: str) -> tuple[bool, datetime]:
    """Whether the registered flow is enabled, and the ledger's clock."""
    row = one(tx, "definition", flow=flow)
    assert row is not None
    return row.enabled, row.now


def register(tx: Connection, manifest: Manifest) -> None:
    """Keep this version, and make it the current one of its flow."""
    run(
        tx,
        "register",
        name=manifest.name,
        version=manifest.version,
        hash=manifest.hash,
        manifest=manifest.to_json(),
    )


def switch(tx: Connection, flow: str, *, enabled: bool, by: str, reason: str | None) -> bool:
    """Enable or disable; False when there is no such flow."""
    return one(tx, "switch", flow=flow, enabled=enabled, by=by, reason=reason, event_id=flow_id(flow)) is not None


def unknown_flow(tx: Connection, flow: str) -> FlowNotFound:
    """The error for a name that is not in the ledger, with the nearest one that is."""
    near = closest(flow, names(tx))
    fix = f"did you mean `{near}`?" if near else "start a worker that has it, or see `orchestrator flow ls`."
    return FlowNotFound(f"No flow {flow!r} is registered. Fix: {fix}", flow=flow)


def names(tx: Connection) -> list[str]:
    """Every flow, for suggestions."""
    return [row.name for row in run(tx, "flow_names")]
