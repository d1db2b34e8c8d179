"""Register a flow: keep every version, make this one current, and bring its schedules in line."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from orchestrator.core.facts import Dispatch
from orchestrator.core.manifest import Manifest
from orchestrator.core.triggers import ScheduleDef
from orchestrator.engine.schedules.changes import going_on, settle, stopped, timing_of
from orchestrator.engine.schedules.operate import end_backfill
from orchestrator.ledger import definitions, schedules, ticks
from orchestrator.ledger.schedules import ScheduleRow
from orchestrator.ledger.ticks import Stored
from orchestrator.ledger.tx import Ledger

CODE: Final = "code"
"""Who changes a schedule by deploying, and pauses it by `paused: true`."""


def register(ledger: Ledger, manifest: Manifest) -> tuple[Dispatch, ...]:
    """Upsert the flow. Runs in flight keep the version they started with; an unchanged flow is not written.

    Where the rule of a schedule changed, what was due by the old one is decided first. The dispatches of that may be
    published; a keeper would too.
    """
    with ledger.auto() as tx:
        if definitions.is_registered(tx, manifest):
            return ()
    return ledger.retry(lambda tx: _register(ledger, tx, manifest))


def _register(ledger: Ledger, tx: Connection, manifest: Manifest) -> tuple[Dispatch, ...]:
    flow = manifest.name
    wanted = {key: (one, _text(one)) for key, one in manifest.schedules.items()}
    definitions.hold(tx, flow)
    ticks.hold_all(tx, flow)
    dispatches: tuple[Dispatch, ...] = ()
    for row in schedules.of_flow(tx, flow):
        if row.active and row.trigger_key in wanted and _changes(row, wanted[row.trigger_key][1]):
            dispatches += settle(ledger, tx, row, CODE)[1]
    definitions.register(tx, manifest)
    # Two who register a new flow at once met at its row just now: the second reads what the first one wrote.
    rows = {row.trigger_key: row for row in schedules.of_flow(tx, flow)}
    for key, row in rows.items():
        if row.active and key not in wanted:
            _remove(tx, row, manifest)
    enabled, now = definitions.switch_and_time(tx, flow)
    for key, (trigger, text) in sorted(wanted.items(), key=lambda item: item[0]):
        if key not in rows:
            _add(tx, manifest, key, trigger, text, now, enabled=enabled)
        elif not rows[key].active or _changes(rows[key], text):
            _change(tx, manifest, rows[key], trigger, text)
    return dispatches


def _text(trigger: ScheduleDef) -> str:
    return json.dumps(trigger.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def _changes(row: ScheduleRow, text: str) -> bool:
    return bool(row.definition != json.loads(text))


def _add(
    tx: Connection, manifest: Manifest, key: str, trigger: ScheduleDef, text: str, now: datetime, *, enabled: bool
) -> None:
    stored = Stored(flow=manifest.name, key=key, active=True, definition=text)
    stored = _paused(stored, now) if trigger.paused else stored
    ticks.put(tx, going_on(stored, now, enabled=enabled))
    _event(tx, manifest, key, "registered", text)


def _change(tx: Connection, manifest: Manifest, row: ScheduleRow, trigger: ScheduleDef, text: str) -> None:
    """A pause of the code follows the code; one of an operator, and an operator's resume, stay until they change it."""
    was_paused, before = bool(row.definition.get("paused")), timing_of(row)
    stored = replace(Stored.of(row), active=True, definition=text)
    if trigger.paused and not was_paused and row.paused_at is None:
        stopped(tx, row, CODE)
        stored = _paused(stored, row.now)
    elif was_paused and not trigger.paused and row.paused_by == CODE:
        stored = replace(stored, paused_at=None, paused_by=None, pause_reason=None)
    goes_on = row.live and stored.paused_at is None and stored.timing() == before
    ticks.put(tx, stored if goes_on else going_on(stored, row.settled_until, enabled=row.flow_enabled))
    _event(tx, manifest, row.trigger_key, "changed" if row.active else "registered", text)


def _remove(tx: Connection, row: ScheduleRow, manifest: Manifest) -> None:
    for backfill_id in ticks.backfills_of(tx, row.flow, row.trigger_key):
        end_backfill(tx, row.flow, row.trigger_key, backfill_id, CODE)
    ticks.put(tx, replace(stopped(tx, row, CODE), active=False))
    ticks.event(tx, row.flow, row.trigger_key, "removed", actor=CODE, version=manifest.version)


def _paused(stored: Stored, now: datetime) -> Stored:
    return replace(stored, paused_at=now, paused_by=CODE, pause_reason="`paused` in the code")


def _event(tx: Connection, manifest: Manifest, key: str, type: str, text: str) -> None:
    facts = {"version": manifest.version, "definition": json.loads(text)}
    ticks.event(tx, manifest.name, key, type, actor=CODE, **facts)
