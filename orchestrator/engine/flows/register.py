"""Who decides a flow's version: workers make a new one current, clients keep theirs beside it, operators go back.

Every version is kept for ever and has an ordinal per flow. A version that was superseded is made current again by
`deploy` only: an old worker that starts again, or one on somebody's laptop, changes nothing.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch
from orchestrator.core.manifest import Manifest
from orchestrator.core.triggers import ScheduleDef
from orchestrator.engine.schedules.changes import going_on, settle, stopped, timing_of
from orchestrator.engine.schedules.operate import end_backfill
from orchestrator.errors import Conflict, NotFound
from orchestrator.ledger import definitions, schedules, ticks, webhooks
from orchestrator.ledger.definitions import Version
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.ticks import Stored
from orchestrator.ledger.tx import Ledger
from orchestrator.webhooks import checks

log = logging.getLogger(__name__)

CODE: Final = "code"
"""The actor when the code changes a schedule, or pauses it by `paused: true`."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Where a version stands after its registration. `before` is the ordinal of the version that it replaced."""

    ordinal: int | None
    current: bool
    current_ordinal: int | None
    changed: bool = False
    before: int | None = None
    dispatches: tuple[Dispatch, ...] = ()


def register(ledger: Ledger, manifest: Manifest, by: str = "somebody") -> Registered:
    """A worker has this version: it is the current one from now on, unless another version superseded it before.

    Runs in flight keep the version they started with. Where the rule of a schedule changed, what was due by the old one
    is decided first. The dispatches of that may be published at once; a keeper would do it too.
    """
    return _register(ledger, manifest, by, lambda version: not version.superseded)


def keep(ledger: Ledger, manifest: Manifest, by: str = "somebody") -> Registered:
    """A client has this version: it is kept, for runs that are pinned to it, and never replaces another one. The first
    version of a flow is its current one."""
    return _register(ledger, manifest, by, lambda version: False)


def deploy(ledger: Ledger, manifest: Manifest, by: str = "somebody") -> Registered:
    """Somebody wants this version: it is the current one from now on, whatever was before."""
    return _register(ledger, manifest, by, lambda version: True)


def deploy_version(ledger: Ledger, flow: str, ordinal: int, by: str) -> Registered:
    """Make an earlier version of a flow the current one.

    Raises:
        FlowNotFound, NotFound: no such flow or version.
        ManifestUnreadable: a newer release wrote that version.
    """
    with ledger.auto() as tx:
        found = definitions.version_at(tx, flow, ordinal)
        if found is None and flow not in definitions.names(tx):
            raise definitions.unknown_flow(tx, flow)
    if found is None:
        raise NotFound(f"Flow {flow} has no version {ordinal}. Fix: see `orchestrator flow versions {flow}`.")
    return deploy(ledger, ledger.manifest(found), by)


def _register(ledger: Ledger, manifest: Manifest, by: str, may_replace: Callable[[Version], bool]) -> Registered:
    """
    Raises:
        ManifestInvalid: a webhook has a scheme that is not known here, or a malformed list of addresses.
        Conflict: another flow has the slug of one of its webhooks.
    """
    if manifest.webhooks:
        manifest.require(None, checks.problems(manifest))
    with ledger.auto() as tx:
        known = definitions.version(tx, manifest.name, manifest.hash)
    if known is not None and known.ordinal is not None:
        current = known.current_hash == manifest.hash
        if current or not may_replace(known):
            return Registered(known.ordinal, current, known.current_ordinal)
    done = ledger.retry(lambda tx: _write(ledger, tx, manifest, by, may_replace))
    if done.changed:
        facts = {"flow": manifest.name, "hash": manifest.hash[:12], "ordinal": done.ordinal, "before": done.before}
        log.info("flow.current", extra={**facts, "by": by})
    return done


def _write(
    ledger: Ledger, tx: Connection, manifest: Manifest, by: str, may_replace: Callable[[Version], bool]
) -> Registered:
    first = definitions.keep(tx, manifest, by)
    version = definitions.version(tx, manifest.name, manifest.hash)
    assert version is not None
    current = version.current_hash == manifest.hash
    if not first and (current or not may_replace(version)):
        return Registered(version.ordinal, current, version.current_ordinal)
    before = None if first else version.current_ordinal
    facts = {
        "flow": manifest.name,
        "by": by,
        "version": manifest.version,
        "hash": manifest.hash[:12],
        "ordinal": version.ordinal,
        "before": before,
    }
    become_current = partial(definitions.make_current, tx, manifest, version.current_hash, facts)
    dispatches = _replace(ledger, tx, manifest, (lambda: None) if first else become_current)
    return Registered(version.ordinal, True, version.ordinal, True, before, dispatches)


def _replace(
    ledger: Ledger, tx: Connection, manifest: Manifest, become_current: Callable[[], None]
) -> tuple[Dispatch, ...]:
    """Make the version current, and bring schedules and webhooks in line with it. The flow is held."""
    flow = manifest.name
    _claim_slugs(tx, manifest)
    wanted = {key: _Wanted(key, one, _text(one)) for key, one in manifest.schedules.items()}
    ticks.hold_all(tx, flow)
    dispatches: tuple[Dispatch, ...] = ()
    for row in schedules.of_flow(tx, flow):
        if row.active and row.trigger_key in wanted and _changes(row, wanted[row.trigger_key]):
            dispatches += settle(ledger, tx, row, CODE)[1]
    become_current()
    rows = {row.trigger_key: row for row in schedules.of_flow(tx, flow)}
    for key, row in rows.items():
        if row.active and key not in wanted:
            _remove(tx, row, manifest)
    enabled, now = definitions.switch_and_time(tx, flow)
    for key, one in sorted(wanted.items()):
        if key not in rows:
            _add(tx, manifest, one, now, enabled=enabled)
        elif not rows[key].active or _changes(rows[key], one):
            _change(tx, manifest, rows[key], one)
    return dispatches


def _claim_slugs(tx: Connection, manifest: Manifest) -> None:
    taken = webhooks.claim(tx, manifest.name, sorted(manifest.webhooks))
    if taken:
        row = webhooks.find(tx, taken[0])
        owner = f"flow {row.flow}" if row else "another flow"
        raise Conflict(
            f"The webhook {taken[0]!r} of flow {manifest.name} has the slug of one of {owner}. Fix: give it another.",
            flow=manifest.name,
            key=taken[0],
        )


class _Wanted(NamedTuple):
    """A schedule of the manifest, and how the ledger keeps it."""

    key: str
    trigger: ScheduleDef
    text: str


def _text(trigger: ScheduleDef) -> str:
    return json.dumps(trigger.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def _changes(row: ScheduleRow, wanted: _Wanted) -> bool:
    return bool(row.definition != json.loads(wanted.text))


def _add(tx: Connection, manifest: Manifest, wanted: _Wanted, now: datetime, *, enabled: bool) -> None:
    stored = Stored(flow=manifest.name, key=wanted.key, active=True, definition=wanted.text)
    stored = _paused(stored, now) if wanted.trigger.paused else stored
    ticks.put(tx, going_on(stored, now, enabled=enabled))
    _event(tx, manifest, wanted, "registered")


def _change(tx: Connection, manifest: Manifest, row: ScheduleRow, wanted: _Wanted) -> None:
    """A pause of the code follows the code; one of an operator, and an operator's resume, stay until they change it."""
    was_paused, before = bool(row.definition.get("paused")), timing_of(row)
    stored = replace(Stored.of(row), active=True, definition=wanted.text)
    if wanted.trigger.paused and not was_paused and row.paused_at is None:
        stopped(tx, row, CODE)
        stored = _paused(stored, row.now)
    elif was_paused and not wanted.trigger.paused and row.paused_by == CODE:
        stored = replace(stored, paused_at=None, paused_by=None, pause_reason=None)
    goes_on = row.live and stored.paused_at is None and stored.timing() == before
    ticks.put(tx, stored if goes_on else going_on(stored, row.settled_until, enabled=row.flow_enabled))
    _event(tx, manifest, wanted, "changed" if row.active else "registered")


def _remove(tx: Connection, row: ScheduleRow, manifest: Manifest) -> None:
    for backfill_id in ticks.backfills_of(tx, row.flow, row.trigger_key):
        end_backfill(tx, row.flow, row.trigger_key, backfill_id, CODE)
    ticks.put(tx, replace(stopped(tx, row, CODE), active=False))
    ticks.event(tx, row.flow, row.trigger_key, "removed", actor=CODE, version=manifest.version)


def _paused(stored: Stored, now: datetime) -> Stored:
    return replace(stored, paused_at=now, paused_by=CODE, pause_reason="`paused` in the code")


def _event(tx: Connection, manifest: Manifest, wanted: _Wanted, type: str) -> None:
    facts = {"version": manifest.version, "definition": json.loads(wanted.text)}
    ticks.event(tx, manifest.name, wanted.key, type, actor=CODE, **facts)
