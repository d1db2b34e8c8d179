"""Claim a dispatched step, and read what it needs."""

import json
from collections.abc import Sequence
from functools import partial
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Connection

from orchestrator.core.expressions import EvaluationFailed, Scope, resolve
from orchestrator.core.facts import Claimant, Lease, UnknownVersion
from orchestrator.core.gates import Join
from orchestrator.core.plan import TRIGGER
from orchestrator.engine.faults import fp
from orchestrator.errors import InputInvalid
from orchestrator.ledger import claims, outputs, scopes
from orchestrator.ledger.tx import Ledger


def claim(ledger: Ledger, run_id: UUID, step_key: str, number: int, by: Claimant) -> Lease | UnknownVersion | None:
    """Take the step of dispatch `number`; None when the message is a duplicate or stale (it is counted).

    Of a version that the claimant does not accept nothing is taken, so that a release that cannot read it, or whose
    handler does not fit, costs no attempt. One statement, one commit. When the database goes away the outcome is
    unknown: ask `owned`.
    """
    fp("claim.before")
    with ledger.auto() as tx:
        row = claims.claim(tx, run_id, step_key, number, by)
        if row is None:
            return claims.suppressed(tx, run_id, step_key, number, by)
    fp("claim.committed")
    node = ledger.plan(row.manifest_hash).node(step_key)
    return claims.as_lease(row, run_id, step_key, by.owner, transactional=node.definition.transactional)


def owned(ledger: Ledger, run_id: UUID, step_key: str, owner: str) -> Lease | None:
    """The live claim of this owner on the step, if it has one."""
    with ledger.auto() as tx:
        row = claims.owned(tx, run_id, step_key, owner)
    if row is None:
        return None
    node = ledger.plan(row.manifest_hash).node(step_key)
    return claims.as_lease(row, run_id, step_key, owner, transactional=node.definition.transactional)


def _read(ledger: Ledger, tx: Connection, lease: Lease, keys: Sequence[str]) -> dict[str, JsonValue]:
    """What a step outside a loop needs."""
    known = outputs.of(ledger, tx, lease.run_id, [key for key in keys if key != TRIGGER])
    return {**known, TRIGGER: claims.trigger_body(tx, lease.run_id)} if TRIGGER in keys else known


def _shared(ledger: Ledger, tx: Connection, lease: Lease, keys: Sequence[str]) -> dict[str, JsonValue]:
    """The same values are asked for by all children of the loop: they are read once per process."""
    marks = outputs.marks(tx, lease.run_id, keys)
    return {
        key: ledger.values.get((lease.run_id, key, marks.get(key)), partial(_value, ledger, tx, lease.run_id, key))
        for key in keys
    }


def _value(ledger: Ledger, tx: Connection, run_id: UUID, key: str) -> JsonValue:
    return claims.trigger_body(tx, run_id) if key == TRIGGER else outputs.of(ledger, tx, run_id, [key]).get(key)


def inputs(ledger: Ledger, lease: Lease) -> str:
    """The step's inputs with every expression resolved, as JSON text.

    Raises:
        InputInvalid: an expression cannot be evaluated with the values of this run.
        PayloadUnavailable, PayloadLost: a value is in the payload store, and cannot be read there.
    """
    node = ledger.plan(lease.manifest_hash).node(lease.step_key)
    known = lease.known
    # A chained lease knows the outputs of its own chain; a join's other branches and large values are read here.
    missing = [key for key in node.needs if key not in known]
    if missing and node.join is Join.ANY:  # what ended after the first one is not seen
        with ledger.auto() as tx:
            needed = claims.needs(tx, lease.run_id, lease.step_key)
        missing = [key for key in missing if key in needed]
    if missing:
        with ledger.auto() as tx:
            known.update(_shared(ledger, tx, lease, missing) if node.loop else _read(ledger, tx, lease, missing))
    given = scopes.by_name({key: known[key] for key in node.reads.outputs if key in known})
    scope = Scope(trigger=known.get(TRIGGER), outputs=given, item=lease.item, index=lease.index)
    if node.reads.more:
        with ledger.auto() as tx:
            scope = scopes.further(tx, lease.run_id, node.reads, scope)
    try:
        resolved = {name: resolve(value, scope) for name, value in node.definition.inputs.items()}
    except EvaluationFailed as exc:
        why = ledger.secrets(lease.manifest_hash).step(lease.step_key).seen.sentence(exc)
        raise InputInvalid(
            f"The inputs of step `{lease.step_key}` cannot be made: {why}. "
            "Fix: correct the expression for later runs; `number(…)` and `time(…)` read a text.",
            step=lease.step_key,
        ) from None
    return json.dumps(resolved, ensure_ascii=False)
