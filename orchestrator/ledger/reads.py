"""What people and clients read: runs, steps, events, flows, workers. Nothing here writes."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import ColumnElement, Row, Select, Text, and_, case, func, null, select, type_coerce

from orchestrator.core.expressions import Scope, references, resolve
from orchestrator.core.planner import Plan
from orchestrator.core.schedule_ids import flow_id, schedule_name
from orchestrator.core.states import FINAL_RUN, RunStatus, StepKind, StepStatus
from orchestrator.core.suggest import closest
from orchestrator.errors import Conflict, RunNotFound, StepNotFound
from orchestrator.ledger import claims, definitions
from orchestrator.ledger.rows import one, run
from orchestrator.ledger.schema import flow_definition_versions, flow_run_controls, flow_runs
from orchestrator.ledger.tx import Ledger

WORKER_TTL = timedelta(seconds=30)
PAGE = 500
"""Steps in a page."""
FOLD = 20
"""A loop with more children is one row with counts, unless more are asked for."""
PART_MIN = 4
"""Digits of a run id that are enough to look for it; `ix_flow_runs_ending` holds as many."""
_ZEROS = "0" * 32
STATUS: Any = type_coerce(flow_runs.c.status, Text())
"""A domain compares as the text it is made of."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run. `error` says why it failed: step, type, message. `key` is the idempotency key, or the key of the schedule
    that started it; then `scheduled_for` is the time that the schedule meant."""

    id: UUID
    flow: str
    version: str
    manifest_hash: str
    status: RunStatus
    tags: tuple[str, ...]
    trigger: str
    key: str | None
    body: JsonValue
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: dict[str, JsonValue] | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    deadline: datetime | None
    epoch: int
    scheduled_for: datetime | None = None
    ordinal: int | None = None
    """Of the version that it is pinned to."""

    @property
    def is_over(self) -> bool:
        return self.status in FINAL_RUN

    @property
    def schedule(self) -> str | None:
        """`flow/key` of the schedule that started it."""
        return schedule_name(self.flow, self.key) if self.scheduled_for is not None and self.key else None


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step. A loop has no type, and counts its children by status. `worked` is the time of its attempts, without the
    pauses between them; it is None for a loop and before the first attempt. `since`: when it came to its status."""

    key: str
    kind: StepKind
    type: str | None
    task: str | None
    loop_key: str | None
    loop_index: int | None
    status: StepStatus
    reason: str | None
    attempts: int
    queue: str
    due_at: datetime | None
    ready_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    children_total: int | None
    children_open: int | None
    children_failed: int | None
    children: dict[str, int] | None
    progress: dict[str, JsonValue] | None
    error: dict[str, JsonValue] | None
    owner: str | None
    worked: timedelta | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An entry of the audit."""

    id: int
    at: datetime
    type: str
    step_key: str | None
    attempt: int | None
    facts: JsonValue


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt of a step."""

    attempt: int
    version: int
    owner: str
    status: str
    error_type: str | None
    error_message: str | None
    error_traceback: str | None
    inputs: JsonValue
    queue_wait: timedelta | None
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A registered flow at its current version."""

    name: str
    version: str
    manifest_hash: str
    enabled: bool
    updated_at: datetime
    switched_by: str | None
    switch_reason: str | None
    open_runs: int
    ordinal: int | None = None
    """Of the current version."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a flow. `ordinal` is null until a release that counts has seen it."""

    ordinal: int | None
    hash: str
    version: str
    format: int
    created_at: datetime
    registered_by: str | None
    superseded_at: datetime | None
    current: bool
    open_runs: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker process; `live` when it was seen lately."""

    id: str
    host: str
    pid: int
    pool: str
    concurrency: int
    prefetch: int
    queues: tuple[str, ...]
    handlers: tuple[str, ...]
    release: str
    started_at: datetime
    seen_at: datetime
    consumed_at: datetime | None
    live: bool
    versions: Mapping[str, str]
    """By flow, the manifest hash of its code."""
    refuses: Mapping[str, str]
    """By task@manifest hash, why it takes no such step."""


@dataclass(frozen=True, slots=True)
class UnservedRow:
    """A task with ready steps that no live worker can run."""

    task: str
    queue: str
    ready: int
    since: datetime


def parked() -> ColumnElement[bool]:
    """Whether a run only waits."""
    return and_(RunStatus.RUNNING.value == STATUS, func.flow_parked(flow_runs.c.id))


def runs(*, inputs: bool = True) -> Select[Any]:
    """What a row of a run is made of; without `inputs` the body stays in the ledger."""
    run_, control, version = flow_runs.c, flow_run_controls.c, flow_definition_versions.c
    return (
        select(
            *(run_[name] for name in ("id", "flow", "manifest_hash", "tags", "trigger_type", "trigger_key")),
            case((parked(), RunStatus.WAITING.value), else_=STATUS).label("status"),
            run_.trigger_body if inputs else null().label("trigger_body"),
            *(run_[name] for name in ("created_at", "started_at", "ended_at", "error", "epoch", "scheduled_for")),
            version.version,
            version.ordinal,
            control.cancel_requested_at,
            control.cancel_reason,
            control.deadline,
        )
        .join(flow_definition_versions, version.hash == run_.manifest_hash)
        .outerjoin(flow_run_controls, and_(control.run_id == run_.id, run_.controlled))
    )


def run_row(row: Row[Any]) -> RunRow:
    """A row of `runs`."""
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
    )


def _no_run(run_id: object) -> RunNotFound:
    return RunNotFound(f"No run {run_id}. Fix: `orchestrator run ls` lists them.", run_id=str(run_id))


def find_run(ledger: Ledger, part: str) -> UUID:
    """The run whose id begins with `part`, or else ends with it: ids of one hour begin alike. Four digits or more.

    Raises:
        RunNotFound: none does.
        Conflict: several do; they are named.
    """
    wanted = part.strip().lower()
    digits = wanted.replace("-", "")
    if not PART_MIN <= len(digits) <= len(_ZEROS) or not set(digits) <= set("0123456789abcdef"):
        raise RunNotFound(
            f"{part!r} is not a run id. Fix: give the last characters of one, at least {PART_MIN}; "
            f"`orchestrator run ls --key {shlex.quote(part)}` finds a run by its idempotency key.",
            run_id=part,
        )
    with ledger.auto() as tx:
        low, high = digits + _ZEROS[len(digits) :], digits + "f" * (len(_ZEROS) - len(digits))
        found = [row.id for row in run(tx, "runs_beginning", low=low, high=high)]
        if not found:
            found = [row.id for row in run(tx, "runs_ending", ending=digits)]
    if not found:
        raise _no_run(part)
    if len(found) > 1:
        shown = ", ".join(str(run_id) for run_id in found)
        raise Conflict(
            f"{part} fits several runs: {shown}. Fix: give the last characters; the first ones are a clock.",
            run_id=part,
        )
    run_id: UUID = found[0]
    return run_id


def get_run(ledger: Ledger, run_id: UUID) -> RunRow:
    """
    Raises:
        RunNotFound: no such run.
    """
    with ledger.auto() as tx:
        row = tx.execute(runs().where(flow_runs.c.id == run_id)).first()
    if row is None:
        raise _no_run(run_id)
    return run_row(row)


def run_status(ledger: Ledger, run_id: UUID) -> RunStatus:
    """The status alone.

    Raises:
        RunNotFound: no such run.
    """
    return _status(ledger, run_id, "shown_status")


def final_status(ledger: Ledger, run_id: UUID) -> RunStatus | None:
    """How the run ended, or None: for who asks again and again, one look-up by key.

    Raises:
        RunNotFound: no such run.
    """
    status = _status(ledger, run_id, "run_status")
    return status if status in FINAL_RUN else None


def _status(ledger: Ledger, run_id: UUID, statement: str) -> RunStatus:
    with ledger.auto() as tx:
        row = one(tx, statement, run_id=run_id)
    if row is None:
        raise _no_run(run_id)
    return RunStatus(row.status)


def steps(
    ledger: Ledger,
    run_id: UUID,
    *,
    loop: str | None = None,
    status: StepStatus | None = None,
    after: str | None = None,
    limit: int = PAGE,
    fold: int = FOLD,
) -> list[StepRow]:
    """A page of a run's steps, in the manifest's order, from the one after `after`; loops with the counts of their
    children, and followed by them if they are at most `fold`. With `loop`: a page of that loop's children.

    Raises:
        RunNotFound, StepNotFound: no such run, loop or step `after`.
    """
    plan = _plan(ledger, run_id)
    if loop is not None:
        first = 0 if after is None else _index(run_id, loop, after) + 1
        if status is None:
            keys = _children(plan, run_id, loop, range(first, first + limit))
        else:
            keys = _with(ledger, run_id, loop, [status], first, limit)
        return _rows(ledger, run_id, plan, keys)
    keys = _after(plan, run_id, after)
    rows = _rows(ledger, run_id, plan, keys[:limit] if status is None else keys)
    rows = [row for row in rows if status in (None, row.status)][:limit]
    small = {
        row.key: _children(plan, run_id, row.key, range(row.children_total))
        for row in rows
        if row.children_total and row.children_total <= fold
    }
    keys = [key for children in small.values() for key in children]
    below = {child.key: child for child in _rows(ledger, run_id, plan, keys)}
    return [one for row in rows for one in (row, *(below[key] for key in small.get(row.key, ()) if key in below))]


def _after(plan: Plan, run_id: UUID, after: str | None) -> list[str]:
    """The steps of the manifest behind one of them, or all."""
    keys = list(plan.nodes)
    if after is None:
        return keys
    if after not in plan.nodes:
        raise no_step(plan, run_id, after)
    return keys[keys.index(after) + 1 :]


def step(ledger: Ledger, run_id: UUID, step_key: str) -> StepRow:
    """One step; a loop with the counts of its children.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
    """
    plan = _plan(ledger, run_id)
    rows = _rows(ledger, run_id, plan, [step_key])
    if not rows:
        raise no_step(plan, run_id, step_key)
    return rows[0]


def first_open_child(ledger: Ledger, run_id: UUID, loop: str) -> StepRow | None:
    """A child of the loop that moves or could: running, ready, or waiting for its back-off."""
    moving = [StepStatus.READY, StepStatus.RUNNING, StepStatus.WAITING]
    found = _rows(ledger, run_id, _plan(ledger, run_id), _with(ledger, run_id, loop, moving, 0, 1))
    return found[0] if found else None


def no_step(plan: Plan, run_id: UUID, step_key: str) -> StepNotFound:
    """The error for a key that no step has."""
    near = closest(step_key, plan.nodes)
    fix = f"did you mean `{near}`? " if near else ""
    return StepNotFound(
        f"Run {run_id} has no step {step_key!r}. Fix: {fix}`orchestrator run show {run_id}` lists the steps.",
        step_key=step_key,
    )


def _plan(ledger: Ledger, run_id: UUID) -> Plan:
    with ledger.auto() as tx:
        row = one(tx, "manifest_of", run_id=run_id)
    if row is None:
        raise _no_run(run_id)
    return ledger.plan(row.manifest_hash)


def _children(plan: Plan, run_id: UUID, loop: str, indices: Iterable[int]) -> list[str]:
    """The keys of these children of a loop, whether or not they are there."""
    node = plan.nodes.get(loop)
    if node is None:
        raise no_step(plan, run_id, loop)
    if node.body is None:
        raise StepNotFound(
            f"Step {loop!r} of run {run_id} is not a loop and has no children. Fix: name a step made with `each`.",
            step_key=loop,
        )
    return [f"{loop}.{index}.{node.body.key}" for index in indices]


def _index(run_id: UUID, loop: str, child: str) -> int:
    """The place of a child, from its key."""
    head, _, rest = child.partition(".")
    index = rest.partition(".")[0]
    if head != loop or not index.isdigit():
        raise StepNotFound(
            f"{child!r} is not a child of loop {loop!r} in run {run_id}. Fix: give the key of the page's last row.",
            step_key=child,
        )
    return int(index)


def _with(ledger: Ledger, run_id: UUID, loop: str, statuses: Sequence[StepStatus], first: int, limit: int) -> list[str]:
    """The keys of a loop's children with these statuses, from the index `first` on."""
    with ledger.auto() as tx:
        found = run(
            tx, "children_with", run_id=run_id, loop_key=loop, statuses=[*map(str, statuses)], start=first, limit=limit
        )
        return [row.step_key for row in found]


def _rows(ledger: Ledger, run_id: UUID, plan: Plan, keys: Sequence[str]) -> list[StepRow]:
    """Those of these steps that there are, in this order."""
    if not keys:
        return []
    loops = [key for key in keys if key in plan.nodes and plan.nodes[key].is_loop]
    counts: dict[str, dict[str, int]] = {key: {} for key in loops}
    with ledger.auto() as tx:
        found = {row.step_key: row for row in run(tx, "steps", run_id=run_id, step_keys=list(keys))}
        for row in run(tx, "count_children", run_id=run_id, loop_keys=loops) if loops else ():
            counts[row.loop_key][row.status] = row.n
    return [_step_row(found[key], counts.get(key)) for key in keys if key in found]


def _step_row(row: Row[Any], children: dict[str, int] | None) -> StepRow:
    return StepRow(
        key=row.step_key,
        kind=StepKind(row.kind),
        type=row.type,
        task=row.task,
        loop_key=row.loop_key,
        loop_index=row.loop_index,
        status=StepStatus(row.status),
        reason=row.reason,
        attempts=row.attempts,
        queue=row.queue,
        due_at=row.due_at,
        ready_at=row.ready_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        children_total=None if children is None else sum(children.values()),
        children_open=row.children_open,
        children_failed=row.children_failed,
        children=children,
        progress=row.progress,
        error={"type": row.error_type, "message": row.error_message} if row.error_type else None,
        owner=row.owner,
        worked=row.worked,
        since=_since(row),
    )


def _since(row: Row[Any]) -> datetime | None:
    """`started_at` is the first attempt's; the last one's is in its own row."""
    match StepStatus(row.status):
        case StepStatus.BLOCKED:
            found = None
        case StepStatus.READY:
            found = row.ready_at
        case StepStatus.RUNNING:
            found = row.tried_at or row.started_at
        case StepStatus.WAITING:
            found = row.tried_until
        case _:
            found = row.ended_at
    since: datetime | None = found
    return since


def events(ledger: Ledger, run_id: UUID, after: int = 0, limit: int = 1000) -> list[EventRow]:
    """The audit of a run, in order, from the event after `after`."""
    with ledger.auto() as tx:
        rows = run(tx, "events", run_id=run_id, after=after, limit=limit)
        return [EventRow(row.id, row.at, row.type, row.step_key, row.attempt, row.facts) for row in rows]


def flow_events(ledger: Ledger, flow: str, after: int = 0, limit: int = 1000) -> list[EventRow]:
    """What happened to a flow itself: refused starts, switches. In order, from the event after `after`.

    Raises:
        FlowNotFound: no such flow is registered.
    """
    found = events(ledger, flow_id(flow), after, limit)
    if not found:
        with ledger.auto() as tx:
            if flow not in definitions.names(tx):
                raise definitions.unknown_flow(tx, flow)
    return found


def attempts(
    ledger: Ledger, run_id: UUID, step_key: str, before: int | None = None, limit: int = 1000
) -> list[AttemptRow]:
    """The last attempts of a step, or the last ones before attempt `before`; the oldest first.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
    """
    with ledger.auto() as tx:
        rows = run(tx, "attempts", run_id=run_id, step_key=step_key, before=before, limit=limit)
        found = [AttemptRow(*tuple(row)) for row in rows]
    if not found:
        step(ledger, run_id, step_key)
    return found[::-1]


def output(ledger: Ledger, run_id: UUID, step_key: str) -> JsonValue:
    """
    Raises:
        StepNotFound: the step has no output: it does not exist, or has not succeeded.
    """
    with ledger.auto() as tx:
        found = claims.outputs(tx, run_id, [step_key])
    if step_key not in found:
        status = step(ledger, run_id, step_key).status
        raise StepNotFound(
            f"Step {step_key!r} of run {run_id} is {status} and has no output. "
            f"Fix: `orchestrator run explain {run_id}/{step_key}` says why.",
            step_key=step_key,
        )
    return found[step_key]


def result(ledger: Ledger, run_id: UUID) -> JsonValue:
    """The run's output: what the flow returns, with the references resolved from the steps' outputs."""
    row = get_run(ledger, run_id)
    expression = ledger.manifest(row.manifest_hash).output
    keys = sorted({ref.key for ref in references(expression) if ref.key is not None})
    with ledger.auto() as tx:
        outputs = claims.outputs(tx, run_id, keys) if keys else {}
    return resolve(expression, Scope(trigger=row.body, outputs=outputs))


def flows(ledger: Ledger) -> list[FlowRow]:
    """Every registered flow."""
    with ledger.auto() as tx:
        return [FlowRow(*tuple(row)) for row in run(tx, "flows", name=None)]


def flow(ledger: Ledger, name: str) -> FlowRow:
    """
    Raises:
        FlowNotFound: with the nearest name there is.
    """
    with ledger.auto() as tx:
        row = one(tx, "flows", name=name)
        if row is None:
            raise definitions.unknown_flow(tx, name)
    return FlowRow(*tuple(row))


def is_unserved(ledger: Ledger, name: str, ttl: timedelta = WORKER_TTL) -> bool:
    """Whether no live worker has a handler of the flow's current version.

    Raises:
        FlowNotFound: no such flow.
    """
    plan = ledger.plan(flow(ledger, name).manifest_hash)
    nodes = [node.body or node for node in plan.nodes.values()]
    handlers = {handler for worker in workers(ledger, ttl) if worker.live for handler in worker.handlers}
    return not handlers & {node.task for node in nodes}


def versions(ledger: Ledger, flow: str) -> list[VersionRow]:
    """The versions of a flow in their order.

    Raises:
        FlowNotFound: with the nearest name there is.
    """
    with ledger.auto() as tx:
        found = [VersionRow(*tuple(row)) for row in run(tx, "versions", flow=flow)]
        if not found:
            raise definitions.unknown_flow(tx, flow)
    return found


def current_versions(ledger: Ledger) -> dict[str, str]:
    """By flow, the hash of its current version."""
    with ledger.auto() as tx:
        return {row.name: row.manifest_hash for row in run(tx, "current_versions")}


def open_steps(ledger: Ledger, flow: str) -> dict[tuple[str, str], int]:
    """How many open runs have yet to end a step, by version (manifest hash) and step."""
    with ledger.auto() as tx:
        return {(row.manifest_hash, row.step_key): row.runs for row in run(tx, "open_steps", flow=flow)}


def workers(ledger: Ledger, ttl: timedelta = WORKER_TTL) -> list[WorkerRow]:
    """Every known worker process."""
    with ledger.auto() as tx:
        return [_worker_row(row) for row in run(tx, "workers", ttl=ttl)]


def _worker_row(row: Row[Any]) -> WorkerRow:
    facts = {**row._mapping, "queues": tuple(row.queues), "handlers": tuple(row.handlers)}
    return WorkerRow(**facts)


def unserved(ledger: Ledger, ttl: timedelta = WORKER_TTL) -> Sequence[UnservedRow]:
    """Tasks whose ready steps no live worker can run."""
    with ledger.auto() as tx:
        return [UnservedRow(*tuple(row)) for row in run(tx, "unserved", ttl=ttl)]


def now(ledger: Ledger) -> datetime:
    """The ledger's clock."""
    with ledger.auto() as tx:
        row = one(tx, "now")
    assert row is not None
    found: datetime = row.now
    return found
