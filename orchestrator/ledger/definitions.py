"""Flow definitions: the current one by name, every version by hash."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from orchestrator.core.manifest import FORMAT, Manifest
from orchestrator.core.schedule_ids import flow_id, schedule_id
from orchestrator.core.suggest import closest
from orchestrator.errors import FlowNotFound, ManifestInvalid, ManifestUnreadable, NotFound
from orchestrator.ledger.rows import one, run


@dataclass(frozen=True, slots=True)
class Version:
    """Where a version of a flow stands. `ordinal` is None when it is not kept (or an earlier release kept it)."""

    ordinal: int | None
    superseded: bool
    current_hash: str
    current_ordinal: int | None


def load(tx: Connection, manifest_hash: str) -> Manifest:
    """The manifest of that hash.

    Raises:
        NotFound: it was never registered.
        ManifestUnreadable: a newer release wrote it.
    """
    row = one(tx, "load_manifest", hash=manifest_hash)
    if row is None:
        raise NotFound(
            f"No manifest with hash {manifest_hash[:12]} is in the ledger. Fix: start a worker that has the flow."
        )
    if row.format > FORMAT:
        raise _unreadable(manifest_hash, f"has format {row.format}, and this release reads up to {FORMAT}")
    try:
        return Manifest.from_json(row.manifest)
    except ManifestInvalid as exc:
        raise _unreadable(manifest_hash, f"cannot be read by this release: {exc.problems[0]}") from exc


def _unreadable(manifest_hash: str, why: str) -> ManifestUnreadable:
    return ManifestUnreadable(
        f"The manifest {manifest_hash[:12]} {why}. Fix: use the release that the newest workers have.",
        manifest_hash=manifest_hash,
    )


def unreadable(tx: Connection) -> list[str]:
    """The hashes of versions that only a newer release can read: their runs are left to it."""
    return [row.hash for row in run(tx, "unreadable", format=FORMAT)]


@dataclass(frozen=True, slots=True)
class Holders:
    """What needs a flow: open runs, schedules that fire, backfills that go on, and live workers with its code."""

    open_runs: int
    schedules: tuple[str, ...]
    backfills: int
    workers: tuple[str, ...]


def holders(tx: Connection, flow: str, worker_ttl: timedelta) -> Holders | None:
    """What needs the flow, which the caller holds; None when there is no such flow."""
    row = one(tx, "holders", flow=flow, ttl=worker_ttl)
    return row and Holders(row.open_runs, tuple(row.schedules), row.backfills, tuple(row.workers))


def forget(tx: Connection, flow: str, by: str) -> None:
    """Remove the flow and its schedules. Its versions stay for the runs that it had."""
    ids = [schedule_id(flow, row.trigger_key) for row in run(tx, "schedule_keys", flow=flow)]
    run(tx, "forget_schedules", flow=flow, event_ids=ids)
    run(tx, "forget_flow", flow=flow, by=by, event_id=flow_id(flow))


def drop_forgotten(tx: Connection) -> int:
    """Remove versions of flows that were deleted a day ago and have no runs any more; how many."""
    rows = run(tx, "drop_forgotten").all()
    run(tx, "drop_events", ids=[flow_id(row.flow) for row in rows])
    return len(rows)


def version(tx: Connection, flow: str, manifest_hash: str) -> Version | None:
    """Where that version stands; None when there is no such flow."""
    row = one(tx, "version", flow=flow, hash=manifest_hash)
    return row and Version(row.ordinal, bool(row.superseded), row.current_hash, row.current_ordinal)


def version_at(tx: Connection, flow: str, ordinal: int) -> str | None:
    """The hash of a flow's version by its ordinal."""
    row = one(tx, "version_at", flow=flow, ordinal=ordinal)
    return row and row.hash


def hold(tx: Connection, flow: str) -> None:
    """Hold the flow, if there is one, against registrations and switches."""
    run(tx, "hold_definition", name=flow)


def switched(tx: Connection, flow: str) -> dict[str, Any] | None:
    """How it is switched, and why; None: there is no such flow."""
    row = one(tx, "definition", flow=flow)
    return None if row is None else {"enabled": row.enabled, "reason": row.switch_reason}


def switch_and_time(tx: Connection, flow: str) -> tuple[bool, datetime]:
    """Whether the registered flow is enabled, and the ledger's clock."""
    row = one(tx, "definition", flow=flow)
    assert row is not None
    return row.enabled, row.now


def keep(tx: Connection, manifest: Manifest, by: str) -> bool:
    """Hold the flow, and keep this version of it; whether it is the first one, and so the current one."""
    facts = {"name": manifest.name, "version": manifest.version, "hash": manifest.hash}
    first = one(tx, "introduce", **facts) is not None
    hold(tx, manifest.name)
    run(tx, "keep_version", **facts, manifest=manifest.to_json(), format=manifest.format, by=by)
    run(tx, "number_versions", flow=manifest.name)
    return first


def make_current(tx: Connection, manifest: Manifest, before: str, facts: Mapping[str, object]) -> None:
    """From now on starts by name, and schedules, get this version; the one before is superseded."""
    run(
        tx,
        "make_current",
        flow=manifest.name,
        version=manifest.version,
        hash=manifest.hash,
        before=before,
        event_id=flow_id(manifest.name),
        facts=json.dumps(facts),
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


def names_ever(tx: Connection) -> list[str]:
    """Every flow that has versions, also those that were deleted."""
    return [row.flow for row in run(tx, "flow_names_ever")]
