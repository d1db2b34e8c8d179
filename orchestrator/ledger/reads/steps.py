"""The steps of a run, in pages; their attempts and outputs."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import Row

from orchestrator.core.plan import Node, Plan
from orchestrator.core.states import StepKind, StepStatus
from orchestrator.core.suggest import closest
from orchestrator.errors import StepNotFound
from orchestrator.ledger import outputs
from orchestrator.ledger.reads.rows import AttemptRow, StepRow
from orchestrator.ledger.reads.runs import plan_of
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger

PAGE = 500
"""Steps in a page."""
FOLD = 20
"""A loop with more children is one row with counts, unless more are asked for."""
_INDEX: Final = re.compile(r"\d{1,9}", re.ASCII)


def page(
    ledger: Ledger,
    run_id: UUID,
    *,
    status: StepStatus | None = None,
    after: str | None = None,
    limit: int = PAGE,
    fold: int = FOLD,
) -> list[StepRow]:
    """A page of a run's steps, in the manifest's order, from the one after `after`; loops with the counts of their
    children, and followed by them if they are at most `fold`.

    Raises:
        RunNotFound, StepNotFound: no such run, or no step `after`.
    """
    plan = plan_of(ledger, run_id)
    keys = _after(plan, run_id, after)
    rows = _rows(ledger, run_id, plan, keys[:limit] if status is None else keys)
    rows = [row for row in rows if status in (None, row.status)][:limit]
    small = {
        row.key: _below(plan, run_id, row.key, row.children_total, fold)
        for row in rows
        if row.children_total and row.children_total <= fold
    }
    keys = [key for within in small.values() for key in within]
    below = {child.key: child for child in _rows(ledger, run_id, plan, keys)}
    return [one for row in rows for one in (row, *(below[key] for key in small.get(row.key, ()) if key in below))]


def children(
    ledger: Ledger,
    run_id: UUID,
    loop: str,
    *,
    status: StepStatus | None = None,
    after: str | None = None,
    limit: int = PAGE,
) -> list[StepRow]:
    """A page of a loop's children, from the one after `after`.

    Raises:
        RunNotFound, StepNotFound: no such run or loop, or no child `after`.
    """
    plan = plan_of(ledger, run_id)
    if (item := _node(plan, run_id, loop)).is_item:
        keys = _of_item(item)
        steps = keys if after is None else keys[keys.index(after) + 1 :] if after in keys else []
        return [row for row in _rows(ledger, run_id, plan, steps) if status in (None, row.status)][:limit]
    first = 0 if after is None else _index(run_id, loop, after) + 1
    if status is None:
        keys = _children(plan, run_id, loop, range(first, first + limit))
    else:
        keys = _with(ledger, run_id, loop, [status], first, limit)
    return _rows(ledger, run_id, plan, keys)


def below(ledger: Ledger, run_id: UUID, loop: str, *, after: str | None = None, limit: int = PAGE) -> list[StepRow]:
    """A page of a loop's children, items followed by their steps, from the child after the one that `after` is, or is
    in. What is below loops of items is not there.

    Raises: as `children`.
    """
    plan = plan_of(ledger, run_id)
    first = 0 if after is None else _index(run_id, loop, after) + 1
    keys = _children(plan, run_id, loop, range(first, first + limit))
    return _rows(ledger, run_id, plan, [one for key in keys for one in _whole(plan, key)])


def _whole(plan: Plan, child: str) -> list[str]:
    """A child of a loop, and its steps."""
    node = plan.node(child)
    return [child, *(_of_item(node) if node.is_item else ())]


def _after(plan: Plan, run_id: UUID, after: str | None) -> list[str]:
    """The steps of the manifest behind one of them, or all."""
    keys = list(plan.nodes)
    if after is None:
        return keys
    if after not in plan.nodes:
        raise unknown(plan, run_id, after)
    return keys[keys.index(after) + 1 :]


def get(ledger: Ledger, run_id: UUID, step_key: str) -> StepRow:
    """One step; a loop with the counts of its children.

    Raises:
        RunNotFound, StepNotFound: no such run or step.
    """
    plan = plan_of(ledger, run_id)
    rows = _rows(ledger, run_id, plan, [step_key])
    if not rows:
        raise unknown(plan, run_id, step_key)
    return rows[0]


def first_open_child(ledger: Ledger, run_id: UUID, loop: str) -> StepRow | None:
    """A child of the loop that moves or could: running, ready, or waiting for its back-off."""
    moving = [StepStatus.READY, StepStatus.RUNNING, StepStatus.WAITING]
    found = _rows(ledger, run_id, plan_of(ledger, run_id), _with(ledger, run_id, loop, moving, 0, 1))
    return found[0] if found else None


def unknown(plan: Plan, run_id: UUID, step_key: str) -> StepNotFound:
    """The error for a key that no step has."""
    row = plan.row(step_key)
    near = row if row != step_key else closest(step_key, plan.nodes)
    fix = f"did you mean `{near}`? " if near else ""
    return StepNotFound(
        f"Run {run_id} has no step {step_key!r}. Fix: {fix}`orchestrator run show {run_id}` lists the steps.",
        step_key=step_key,
    )


def _children(plan: Plan, run_id: UUID, loop: str, indices: Iterable[int]) -> list[str]:
    """The keys of these children of a loop, whether or not they are there."""
    node = _node(plan, run_id, loop)
    if not node.is_loop:
        raise StepNotFound(
            f"Step {loop!r} of run {run_id} is not a loop and has no children. Fix: name a step made with `each`.",
            step_key=loop,
        )
    return [f"{loop}.{index}{node.child_suffix}" for index in indices]


def _node(plan: Plan, run_id: UUID, step_key: str) -> Node:
    try:
        return plan.node(step_key)
    except KeyError:
        raise unknown(plan, run_id, step_key) from None


def _of_item(item: Node) -> list[str]:
    """The keys of an item's steps."""
    assert item.graph is not None
    return [f"{item.key}.{key}" for key in item.graph.nodes]


def _below(plan: Plan, run_id: UUID, loop: str, width: int, fold: int) -> list[str]:
    """The children of a loop; with the steps of its items, if they are few."""
    keys = _children(plan, run_id, loop, range(width))
    whole = [one for key in keys for one in _whole(plan, key)]
    return keys if len(whole) > max(fold, width) else whole


def _index(run_id: UUID, loop: str, child: str) -> int:
    """The place of a child, from its key."""
    index = child.removeprefix(f"{loop}.").partition(".")[0]
    if not child.startswith(f"{loop}.") or not _INDEX.fullmatch(index):
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
    loops = [key for key in keys if _has_children(plan, key)]
    counts: dict[str, dict[str, int]] = {key: {} for key in loops}
    with ledger.auto() as tx:
        found = {row.step_key: row for row in run(tx, "steps", run_id=run_id, step_keys=list(keys))}
        for row in run(tx, "count_children", run_id=run_id, loop_keys=loops) if loops else ():
            counts[row.loop_key][row.status] = row.n
    return [_step_row(found[key], counts.get(key)) for key in keys if key in found]


def _has_children(plan: Plan, step_key: str) -> bool:
    try:
        node = plan.node(step_key)
    except KeyError:
        return False
    return node.is_loop or node.is_item


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
        polls=row.polls,
        wake_at=row.wake_at,
        child=row.child_run_id,
        awaits=row.awaits,
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
        get(ledger, run_id, step_key)
    return found[::-1]


def output(ledger: Ledger, run_id: UUID, step_key: str) -> JsonValue:
    """
    Raises:
        StepNotFound: the step has no output: it does not exist, or has not succeeded.
    """
    with ledger.auto() as tx:
        found = outputs.of(ledger, tx, run_id, [step_key])
    if step_key not in found:
        status = get(ledger, run_id, step_key).status
        raise StepNotFound(
            f"Step {step_key!r} of run {run_id} is {status} and has no output. "
            f"Fix: `orchestrator run explain {run_id}/{step_key}` says why.",
            step_key=step_key,
        )
    return found[step_key]
