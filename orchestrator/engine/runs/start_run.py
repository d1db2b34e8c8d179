"""Accept triggers: accepted means durable."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from orchestrator.core.facts import Dispatch, Finished, StartedRun, StartRequest
from orchestrator.core.happened import Refused, RunOf
from orchestrator.core.inputs import Inputs, canonical
from orchestrator.core.plan import Plan
from orchestrator.engine.faults import fp
from orchestrator.engine.runs import accept
from orchestrator.engine.steps import advance
from orchestrator.engine.steps.held_run import HeldRun
from orchestrator.engine.steps.notifying import notify_started
from orchestrator.errors import (
    IdempotencyConflict,
    ManifestUnreadable,
    NotFound,
    OrchestratorError,
)
from orchestrator.ledger import graph, starts
from orchestrator.ledger.borrowed import Borrowed, borrowed
from orchestrator.ledger.starts import NewRun
from orchestrator.ledger.tx import Ledger, refusal
from orchestrator.observe.observer import notify


def start(ledger: Ledger, requests: Sequence[StartRequest]) -> list[StartedRun]:
    """Start one run per request, all or none; for one flow in one statement, which is a commit of its own.

    A request whose idempotency key was used with the same body gives the first run (`created` False). A body counts as
    the same if it is the first run's once the defaults of that time are filled in: a deploy that adds a default does
    not turn it into another request.

    Raises:
        FlowNotFound, FlowDisabled: nothing was started; the refusal of a disabled flow is recorded.
        InputInvalid: a body does not fit the flow's input schema.
        IdempotencyConflict: a key was used with another body.
    """
    if not requests:
        return []
    fp("start.before")
    try:
        batches = accept.batches_of(requests)
        if len(batches) == 1:
            started = _start_alone(ledger, batches[0])
        else:
            started = ledger.retry(lambda tx: _start_all(ledger, tx, batches))
    except OrchestratorError as exc:
        for flow in {request.flow for request in requests}:
            notify(Refused("start", exc.code, flow))
        raise
    fp("start.committed")
    for request, one in zip(requests, started, strict=True):
        notify_started(RunOf(one.run_id, request.flow, request.trigger), one)
    return started


def begin_later(held: HeldRun) -> Finished:
    """The time of a run has come that was accepted before it was to begin."""
    graph.event(held.tx, held.id, "run.opened")
    return advance.open_run(held, {})


def start_in(ledger: Ledger, tx: Connection, requests: Sequence[StartRequest]) -> list[StartedRun]:
    """Like `start`, as part of the caller's transaction: what else it writes is committed with the runs, or not at all.

    The caller sees to it that the definitions of the flows do not change meanwhile, and publishes after the commit.
    What is refused before the first statement leaves the transaction usable: InputInvalid, FlowDisabled, FlowNotFound.
    Observers are for the caller to notify, after the commit.

    Raises: as `start`.
    """
    return _start_all(ledger, tx, accept.batches_of(requests))


def start_borrowed(ledger: Ledger, connection: Borrowed, requests: Sequence[StartRequest]) -> list[StartedRun]:
    """Like `start_in`, in a transaction of code that knows nothing of us: whatever is refused leaves it usable. No
    observer hears of it, nor of the end of a run without steps.

    Raises: as `start`, and UsageError: the connection does not fit.
    """
    try:
        with borrowed(ledger, connection) as tx:
            return start_in(ledger, tx, requests)
    except (DBAPIError, psycopg.Error) as exc:
        if refusal(exc) is None:
            raise
        raise IdempotencyConflict(
            "An idempotency key was used with another input in this transaction. Fix: use a new key for a new request."
        ) from exc


def _start_all(ledger: Ledger, tx: Connection, batches: Sequence[accept.Batch]) -> list[StartedRun]:
    """The answers in the order of the requests."""
    answers = [(batch.places, _start_within(ledger, tx, batch)) for batch in batches]
    by_place = {place: one for places, started in answers for place, one in zip(places, started, strict=True)}
    return [by_place[place] for place in sorted(by_place)]


def _start_alone(ledger: Ledger, batch: accept.Batch) -> list[StartedRun]:
    """Optimistic: whether a taken key belongs to the same request is only asked when the statement refuses it."""
    digests: dict[str, str] = {}
    for plan in accept.plans(ledger, batch):
        new = accept.new_runs(ledger, plan, batch, digests)
        try:
            started = _commit(ledger, plan, batch, new)
        except DBAPIError as exc:
            if refusal(exc) is None:
                raise
            with ledger.auto() as tx:
                digests |= _digests_of_same_requests(ledger, tx, batch, new)
            continue
        if started is not None:
            return started
    raise accept.moving(batch)


def _commit(ledger: Ledger, plan: Plan, batch: accept.Batch, new: Sequence[NewRun]) -> list[StartedRun] | None:
    commit = ledger.retry if plan.goes_on_at_start else ledger.once
    return commit(lambda tx: _insert(ledger, tx, plan, batch, new))


def _start_within(ledger: Ledger, tx: Connection, batch: accept.Batch) -> list[StartedRun]:
    """Pessimistic: a key that the statement refuses would end the caller's transaction, so it is asked before."""
    for plan in accept.plans(ledger, batch):
        new = accept.new_runs(ledger, plan, batch, {})
        if digests := _digests_of_same_requests(ledger, tx, batch, new):
            new = accept.new_runs(ledger, plan, batch, digests)
        if (started := _insert(ledger, tx, plan, batch, new)) is not None:
            return started
    raise accept.moving(batch)


# ---- one batch -------------------------------------------------------------------------------------------------


def _insert(
    ledger: Ledger, tx: Connection, plan: Plan, batch: accept.Batch, new: Sequence[NewRun]
) -> list[StartedRun] | None:
    """None: the flow is not at this version any more, or disabled; nothing was written."""
    unique = _one_per_key(batch, new)
    run_ids = starts.start(tx, plan, list(unique.values()), pinned=bool(batch.version), closed=batch.later)
    if not run_ids:
        return None
    created = {one.id for one in unique.values() if run_ids[one.id] == one.id}
    opened: dict[UUID, Finished] = {}
    if plan.goes_on_at_start and not batch.later:
        opened = {run_id: advance.begin(HeldRun.lock(ledger, tx, run_id)) for run_id in sorted(created)}
    return [
        (StartedRun(one.id, True, ()) if batch.later else _started(plan, one.id, opened.get(one.id)))
        if one.id in created
        else StartedRun(run_ids[unique[one.request.key or one.id].id], False, ())
        for one in new
    ]


def _started(plan: Plan, run_id: UUID, opened: Finished | None) -> StartedRun:
    return StartedRun(run_id, True, _first_steps(plan, run_id) + (opened.dispatches if opened else ()), opened)


def _first_steps(plan: Plan, run_id: UUID) -> tuple[Dispatch, ...]:
    """What the statement dispatched."""
    return tuple(
        Dispatch(run_id, node.key, 1, node.task or "", node.queue, node.priority) for node in plan.roots() if node.plain
    )


def _one_per_key(batch: accept.Batch, new: Sequence[NewRun]) -> dict[str | UUID, NewRun]:
    """By key, or by id without one: the first request of each. The statement may not meet a key twice."""
    unique: dict[str | UUID, NewRun] = {}
    for each in new:
        if unique.setdefault(each.request.key or each.id, each).digest != each.digest:
            raise _conflict(batch, each, "is given twice in one call, with different inputs")
    return unique


# ---- keys ------------------------------------------------------------------------------------------------------


def _digests_of_same_requests(
    ledger: Ledger, tx: Connection, batch: accept.Batch, new: Sequence[NewRun]
) -> Mapping[str, str]:
    """By key, the digest that stands in the ledger, where it differs and yet the request is the same.

    Raises:
        IdempotencyConflict: one is another request.
    """
    keys = [each.request.key for each in new if each.request.key is not None]
    found = starts.first_requests(tx, batch.flow, keys) if keys else {}
    same: dict[str, str] = {}
    for each in new:
        first = found.get(each.request.key or "")
        if first is None or first.request_hash == each.digest:
            continue
        if not _is_same(ledger, first, each):
            why = f"belongs to run {first.run_id}, which was started with another input"
            raise _conflict(batch, each, why, first.run_id)
        same[first.key] = first.request_hash
    return same


def _is_same(ledger: Ledger, first: Row[Any], new: NewRun) -> bool:
    """Whether it, filled with the defaults of the first run's version, is what that run was started with."""
    try:
        inputs = ledger.plan(first.manifest_hash).inputs
    except (NotFound, ManifestUnreadable):
        inputs = Inputs(new.request.flow, {})
    return inputs.accept(new.input.given).canonical == canonical(first.body)


def _conflict(batch: accept.Batch, new: NewRun, why: str, run_id: UUID | None = None) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"Idempotency key {new.request.key!r} of flow {batch.flow} {why}. Fix: use a new key for a new request.",
        flow=batch.flow,
        key=new.request.key,
        run_id=run_id and str(run_id),
    )
