"""Runs: by id, by a part of it, how they stand, what they returned."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Row, Select, Text, and_, case, func, null, select, type_coerce

from orchestrator.core.expressions import EvaluationFailed, references, resolve
from orchestrator.core.expressions.reads import Reads
from orchestrator.core.plan import Plan
from orchestrator.core.states import FINAL_RUN, RunStatus
from orchestrator.errors import Conflict, OutputInvalid, RunNotFound
from orchestrator.ledger import scopes
from orchestrator.ledger.endings import LEAST, digits_of, span_of
from orchestrator.ledger.reads.rows import RunRow
from orchestrator.ledger.rows import hot, one, run
from orchestrator.ledger.schema import flow_definition_versions, flow_events, flow_run_controls, flow_runs
from orchestrator.ledger.tx import Ledger

STATUS: Any = type_coerce(flow_runs.c.status, Text())
"""A domain compares as its underlying text."""


def parked() -> ColumnElement[bool]:
    """Whether a run only waits."""
    return and_(RunStatus.RUNNING.value == STATUS, func.flow_parked(flow_runs.c.id))


def selected(*, inputs: bool = True) -> Select[Any]:
    """The columns of a run's row; without `inputs` the body stays in the ledger."""
    run_, control, version = flow_runs.c, flow_run_controls.c, flow_definition_versions.c
    return (
        select(
            *(
                run_[name]
                for name in ("id", "flow", "manifest_hash", "tags", "trigger_type", "trigger_key", "source_run_id")
            ),
            *(run_[name] for name in ("parent_run_id", "parent_step_key")),
            case((parked(), RunStatus.WAITING.value), else_=STATUS).label("status"),
            run_.trigger_body if inputs else null().label("trigger_body"),
            *(
                run_[name]
                for name in (
                    "created_at",
                    "started_at",
                    "ended_at",
                    "error",
                    "epoch",
                    "scheduled_for",
                    "search",
                    "trace_context",
                    "fingerprint",
                )
            ),
            version.version,
            version.ordinal,
            control.cancel_requested_at,
            control.cancel_reason,
            control.deadline,
            control.start_at,
        )
        .join(flow_definition_versions, version.hash == run_.manifest_hash)
        .outerjoin(flow_run_controls, and_(control.run_id == run_.id, run_.controlled))
    )


def row_of(row: Row[Any]) -> RunRow:
    """A row of `selected`."""
    return RunRow(
        id=row.id,
        flow=row.flow,
        version=row.version,
        manifest_hash=row.manifest_hash,
        status=RunStatus(row.status),
        tags=tuple(row.tags),
        trigger=row.trigger_type,
        key=row.trigger_key,
        body=row.trigger_body,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error=row.error,
        cancel_requested_at=row.cancel_requested_at,
        cancel_reason=row.cancel_reason,
        deadline=row.deadline,
        epoch=row.epoch,
        ordinal=row.ordinal,
        scheduled_for=row.scheduled_for,
        source=row.source_run_id,
        start_at=row.start_at,
        parent=row.parent_run_id,
        parent_step=row.parent_step_key,
        search=row.search or {},
        trace_context=row.trace_context or {},
        fingerprint=row.fingerprint,
    )


def no_run(run_id: object) -> RunNotFound:
    """The error for a run that does not exist."""
    return RunNotFound(f"No run {run_id}. Fix: `orchestrator run ls` lists them.", run_id=str(run_id))


def check_whole(part: str) -> None:
    """
    Raises:
        RunNotFound: it names a step.
    """
    whole, slash, step = part.strip().partition("/")
    if slash:
        raise RunNotFound(
            f"{part!r} names a step, and this takes whole runs. Fix: leave /{step} out: {whole}.", run_id=part
        )


def find(ledger: Ledger, part: str) -> UUID:
    """The run whose id begins with `part`, or else ends with it: ids of one hour begin alike. Four digits or more.

    Raises:
        RunNotFound: none does.
        Conflict: several do; they are named.
    """
    check_whole(part)
    digits = digits_of(part)
    if digits is None:
        raise RunNotFound(
            f"{part!r} is not a run id. Fix: give the last characters of one, at least {LEAST}; "
            f"`orchestrator run ls --key {shlex.quote(part)}` finds a run by its idempotency key.",
            run_id=part,
        )
    with ledger.auto() as tx:
        low, high = span_of(digits)
        found = [row.id for row in run(tx, "runs_beginning", low=low, high=high)]
        if not found:
            found = [row.id for row in run(tx, "runs_ending", ending=digits)]
    if not found:
        raise no_run(part)
    if len(found) > 1:
        shown = ", ".join(str(run_id) for run_id in found)
        raise Conflict(
            f"{part} matches several runs: {shown}. Fix: give the last characters; the first ones are a clock.",
            run_id=part,
        )
    run_id: UUID = found[0]
    return run_id


def get(ledger: Ledger, run_id: UUID) -> RunRow:
    """
    Raises:
        RunNotFound: no such run.
    """
    with ledger.auto() as tx:
        row = tx.execute(selected().where(flow_runs.c.id == run_id)).first()
    if row is None:
        raise no_run(run_id)
    return row_of(row)


def with_last_event(ledger: Ledger, run_id: UUID) -> tuple[RunRow, int]:
    """As `get`, and the id of its last event, of the same moment; 0: it has none.

    Raises:
        RunNotFound: no such run.
    """
    last = select(func.coalesce(func.max(flow_events.c.id), 0)).where(flow_events.c.run_id == run_id).scalar_subquery()
    with ledger.auto() as tx:
        row = tx.execute(selected().add_columns(last.label("last_event")).where(flow_runs.c.id == run_id)).first()
    if row is None:
        raise no_run(run_id)
    return row_of(row), row.last_event


def status(ledger: Ledger, run_id: UUID) -> RunStatus:
    """The status alone.

    Raises:
        RunNotFound: no such run.
    """
    with ledger.auto() as tx:
        row = one(tx, "shown_status", run_id=run_id)
    if row is None:
        raise no_run(run_id)
    return RunStatus(row.status)


def final_status(ledger: Ledger, run_id: UUID) -> RunStatus | None:
    """How the run ended, or None: for whoever asks again and again, one look-up by key.

    Raises:
        RunNotFound: no such run.
    """
    return end_of(run_id, statuses(ledger, [run_id]))


def end_of(run_id: UUID, found: Mapping[UUID, RunStatus]) -> RunStatus | None:
    """How the run ended, or None, by what `statuses` found.

    Raises:
        RunNotFound: it did not find the run.
    """
    status = found.get(run_id)
    if status is None:
        raise no_run(run_id)
    return status if status in FINAL_RUN else None


def statuses(ledger: Ledger, run_ids: Sequence[UUID]) -> dict[UUID, RunStatus]:
    """Where these runs stand, as stored, in one statement; a run that does not exist is left out."""
    with ledger.auto() as tx:
        return {row.id: RunStatus(row.status) for row in hot(tx, "run_statuses", run_ids=list(run_ids))}


def plan_of(ledger: Ledger, run_id: UUID) -> Plan:
    """The graph of the version that it is pinned to.

    Raises:
        RunNotFound: no such run.
    """
    with ledger.auto() as tx:
        row = one(tx, "manifest_of", run_id=run_id)
    if row is None:
        raise no_run(run_id)
    return ledger.plan(row.manifest_hash)


def reruns(ledger: Ledger, run_id: UUID, limit: int = 20) -> list[UUID]:
    """The last runs that were made of it, the newest first."""
    with ledger.auto() as tx:
        return [row.id for row in run(tx, "reruns_of", run_id=run_id, limit=limit)]


def result(ledger: Ledger, run_id: UUID) -> JsonValue:
    """The run's output: what the flow returns, with the references resolved from the steps' outputs."""
    row = get(ledger, run_id)
    expression = ledger.manifest(row.manifest_hash).output
    with ledger.auto() as tx:
        scope = scopes.whole(ledger, tx, run_id, Reads.of(references(expression)))
    try:
        return resolve(expression, scope)
    except EvaluationFailed as exc:
        raise OutputInvalid(
            f"The output of run {run_id} cannot be made: {ledger.secrets(row.manifest_hash).seen.sentence(exc)}. Fix: "
            "read what its steps returned, and correct the flow's `output` for later runs.",
            flow=row.flow,
        ) from None
